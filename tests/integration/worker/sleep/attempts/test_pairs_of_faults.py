"""A sample of the pairs of faults; tests/faults/storage has the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from pairs.bucket import bucket_way
from pairs.folder import FolderWay
from pairs.matrix import Way
from pairs.sessions import PATHS, Path
from pairs.trial import Record, check
from support.storage_proxy import StorageProxy
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow


@pytest.fixture
def way(
    archive_url: str, scratch: FilePath, bucket: str, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Way]:
    if archive_url.startswith("file:"):
        yield FolderWay(scratch / "archive")
    else:
        with bucket_way(proxy, bucket, monkeypatch) as made:
            yield made


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_no_two_faults_lose_double_or_revive_a_message(
    services: Services, way: Way, path: Path, record_property: Record
) -> None:
    check(way, services, path, way.faults, record_property, share=0.01)
