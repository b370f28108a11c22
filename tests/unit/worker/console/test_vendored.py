"""The files of others in the console are the ones that VENDORED.md names, unchanged, with their licences."""

from __future__ import annotations

import hashlib
import re

from torpor.worker.console.static_files import FOLDER

PAGE = (FOLDER / "VENDORED.md").read_text(encoding="utf-8")
_PACKAGE = re.compile(r"^\| \[([\w.]+)\]\([^)]+\) \| ([\d.]+) \| (\w+) \| `(sha512-[\w+/=]{88})` \|$", re.MULTILINE)


def test_each_file_of_others_has_the_checksum_that_the_list_says() -> None:
    listed = dict(re.findall(r"^\| `([^`]+)` \| .* \| `([0-9a-f]{64})` \|$", PAGE, re.MULTILINE))
    assert {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in listed} == listed
    minified = {path.name for path in FOLDER.iterdir() if ".min." in path.name or "LICENSE" in path.name}
    assert set(listed) == minified


def test_each_package_has_a_version_an_integrity_and_a_licence() -> None:
    packages = _PACKAGE.findall(PAGE)
    assert {name: version for name, version, _, _ in packages} == {"htmx.org": "2.0.11", "uplot": "1.6.32"}
    for name, *_ in packages:
        assert (FOLDER / f"{name.partition('.')[0]}.LICENSE.txt").read_text(encoding="utf-8").strip()
