# ruff: noqa: INP001, T201 - a program of CI
"""Say what a report of pip-audit has found: vulnerabilities.py REPORT.

pip-audit says "no known vulnerabilities" of packages too that it could not ask about. Exit codes: 0 all were asked
about and none is known, 1 some are known, 3 not all could be asked about.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Print vulnerabilities by package, or why there is no answer."""
    report = Path(sys.argv[1])
    packages = json.loads(report.read_text() or "{}").get("dependencies", []) if report.exists() else []
    known = [(each, found) for each in packages for found in each.get("vulns", ())]
    skipped = [each for each in packages if "skip_reason" in each]
    for each, found in known:
        print(f"{each['name']} {each['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}")
    if skipped or not packages:
        why = skipped[0]["skip_reason"] if skipped else "the service of known vulnerabilities was not reached"
        print(f"NOT AUDITED: {len(skipped)} of {len(packages)} packages: {why}")
    elif not known:
        print(f"no known vulnerability in {len(packages)} packages")
    sys.exit(1 if known else 3 if skipped or not packages else 0)


if __name__ == "__main__":
    main()
