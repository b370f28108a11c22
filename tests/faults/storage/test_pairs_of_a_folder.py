"""Two faults, one after the other, on the way to a folder."""

from __future__ import annotations

from pathlib import Path as FilePath

import pytest

from pairs.attempt import Fault
from pairs.folder import FolderWay
from pairs.sessions import PATHS, Path
from pairs.trial import Record, check
from torpor.worker.deployment.services import Services


@pytest.fixture
def archive_url(scratch: FilePath) -> str:
    return (scratch / "archive").as_uri()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("first", FolderWay.faults, ids=str)
def test_no_two_faults_lose_double_or_revive_a_message(
    services: Services, scratch: FilePath, path: Path, first: Fault, record_property: Record
) -> None:
    check(FolderWay(scratch / "archive"), services, path, [first], record_property, share=0.4)
