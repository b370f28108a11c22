"""What an operator's modules load: `torpor status` and an export must not wait for libraries that they do not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.paths import ROOT

NOT_FOR_STATUS = {"langchain_core", "celery", "google.cloud.storage", "httptools", "torpor.worker.archive.stores.gcs"}


@pytest.mark.parametrize(
    ("code", "unused"),
    [
        (
            "from torpor.worker.ops import status; from torpor.worker.archive.stores import url; url.open_archive('file:///x')",
            NOT_FOR_STATUS,
        ),
        (
            "from torpor.worker.transfer import json_lines; list(json_lines.export_line('s', [b'{}']))",
            {"langchain_core"},
        ),
        ("from torpor.worker.ops import doctor", NOT_FOR_STATUS),
    ],
    ids=["status", "export", "doctor"],
)
def test_it_loads_nothing_that_it_does_not_use(code: str, unused: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "torpor.worker" in loaded
    assert not unused & loaded
