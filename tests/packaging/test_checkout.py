"""From the root of the repository, `history` and `worker` are other names of `torpor.history` and `torpor.worker`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT
from support.waiting import scaled

pytestmark = pytest.mark.timeout(120)

SAME = """
import sys
import torpor, torpor.worker.app
from history import MemorystoreChatMessageHistory, SessionNotFound
from history.session import SessionInfo
from worker.app import app
from worker.wake.session_archive import SessionArchive
assert MemorystoreChatMessageHistory is torpor.MemorystoreChatMessageHistory
assert SessionNotFound is torpor.SessionNotFound
assert SessionInfo is torpor.SessionInfo
assert SessionArchive is torpor.SessionArchive
assert app is torpor.worker.app.app
assert sys.modules["history"] is torpor.history and sys.modules["worker"] is torpor.worker
"""


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = {"TORPOR_ARCHIVE_URL": "file:///nowhere", **variables}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("TORPOR_", "PYTHON"))}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, env=others | settings, timeout=scaled(60)
    )


@pytest.mark.parametrize("first", ["", "import worker.app, history", "import history.protocol, worker.tasks"])
def test_the_short_names_are_the_same_classes_and_the_same_app(first: str) -> None:
    done = run(sys.executable, "-c", f"{first}\n{SAME}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("packages", [["torpor"], ["history", "worker"], ["worker", "torpor", "history"]], ids=" ".join)
def test_no_file_is_loaded_twice_and_there_is_one_celery_app(packages: list[str]) -> None:
    done = run(sys.executable, "tests/packaging/loaded_modules.py", *packages, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.parametrize("app", ["worker.app", "torpor.worker.app"])
def test_celery_finds_the_app_by_both_names(app: str) -> None:
    report = run(str(Path(sys.executable).with_name("celery")), "-A", app, "report")
    assert (report.returncode, "torpor.sweep" in report.stdout) == (0, True), report.stderr
