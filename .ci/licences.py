# ruff: noqa: INP001, T201 - a program of CI
"""Check that everything which an installation brings has a licence that may be passed on: licences.py LOCKED.

LOCKED is a list of requirements. Those that are installed here are checked; the others are for other platforms.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

# Licences that ask for a notice at most, or (MPL, LGPL) for the source of the package itself, as an index has it.
ALLOWED = re.compile(
    r"\b(apache|mit|bsd|isc|python software foundation|psf|mozilla public|mpl|unlicense|zlib|0bsd|lgpl|cnri)",
    re.IGNORECASE,
)


def licences(package: Distribution) -> Iterator[str]:
    """What a package says of its licence, the most exact first."""
    yield from package.metadata.get_all("License-Expression") or []
    yield from (each for each in package.metadata.get_all("Classifier") or [] if each.startswith("License ::"))
    yield from (text[:200] for text in package.metadata.get_all("License") or [])


def main() -> None:
    """Print the packages whose licence is not allowed, and end with exit code 1 if there are any."""
    names = re.findall(r"^([\w.-]+)==", Path(sys.argv[1]).read_text(), re.MULTILINE)
    checked, wrong = 0, []
    for name in sorted(set(names)):
        try:
            said = list(licences(distribution(name)))
        except PackageNotFoundError:
            continue
        checked += 1
        if not any(map(ALLOWED.search, said)):
            wrong.append(f"{name}: {said[0] if said else 'says no licence'}")
    print("\n".join(wrong) if wrong else f"{checked} packages have licences that are allowed")
    sys.exit(bool(wrong) or not checked)


if __name__ == "__main__":
    main()
