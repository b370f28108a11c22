"""Two faults, one after the other, on the way to a bucket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pairs.attempt import Fault
from pairs.bucket import BucketWay, bucket_way
from pairs.sessions import PATHS, Path
from pairs.trial import Record, check
from support.storage_proxy import StorageProxy
from torpor.worker.deployment.services import Services


@pytest.fixture
def way(proxy: StorageProxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketWay]:
    with bucket_way(proxy, bucket, monkeypatch) as made:
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("first", BucketWay.faults, ids=str)
def test_no_two_faults_lose_double_or_revive_a_message(
    services: Services, way: BucketWay, path: Path, first: Fault, record_property: Record
) -> None:
    check(way, services, path, [first], record_property, share=0.15)
