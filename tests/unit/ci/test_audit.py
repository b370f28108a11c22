"""What the audit says of a report and of licences: nothing is taken for safe that was not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

SAFE: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
HOLE: dict[str, Any] = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
SKIPPED: dict[str, Any] = {"name": "c", "skip_reason": "not found"}


def said(program: str, argument: Path) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / ".ci" / program), str(argument)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ([SAFE], (0, "no known vulnerability in 1 packages")),
        ([SAFE, HOLE], (1, "b 2: CVE-1, fixed in 3")),
        ([SAFE, SKIPPED], (3, "NOT AUDITED: 1 of 2 packages: not found")),
        ([HOLE, SKIPPED], (1, "b 2: CVE-1, fixed in 3\nNOT AUDITED: 1 of 2 packages: not found")),
        ([], (3, "NOT AUDITED: 0 of 0 packages: the service of known vulnerabilities was not reached")),
    ],
)
def test_packages_that_were_not_asked_about_are_not_safe(
    packages: list[dict[str, Any]], expected: tuple[int, str], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"dependencies": packages}))
    assert said("vulnerabilities.py", report) == expected


def test_no_report_is_no_answer(tmp_path: Path) -> None:
    assert said("vulnerabilities.py", tmp_path / "none.json")[0] == 3


def test_a_licence_that_is_not_on_the_list_is_named(tmp_path: Path) -> None:
    for name, licence in (("good", "Apache-2.0"), ("bad", "AGPL-3.0-only"), ("silent", "")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n" + (
            f"License-Expression: {licence}\n" if licence else ""
        )
        (folder / "METADATA").write_text(text)
    locked = tmp_path / "locked.txt"
    locked.write_text("good==1 \\\n    --hash=sha256:0\nbad==1\nsilent==1\nother-platform==1\n")
    command = [sys.executable, str(ROOT / ".ci" / "licences.py"), str(locked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "bad: AGPL-3.0-only\nsilent: says no licence\n")
