"""Faults of Cloud Storage that pass within a minute: the request is made again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.faulty_storage import LATER, MIB, PASSING, content, put, random_bytes
from support.storage_proxy import (
    Fault,
    StorageProxy,
    answered,
    cut_down,
)
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.errors import ArchiveUnavailable

passing = pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())


# What passes


@passing
@pytest.mark.parametrize(
    ("kind", "size"), [("upload", 0), ("upload", 1_000), ("initiate", 600_000), ("chunk", 600_000)]
)
@pytest.mark.usefixtures("small_parts")
def test_an_upload_survives_a_fault_that_passes(
    archive: ArchiveStore, proxy: StorageProxy, fault: Fault, kind: str, size: int
) -> None:
    data = random_bytes(size)
    for times in (1, 2):
        proxy.fail(fault, kind, times=times)
        stored = put(archive, data)
        assert proxy.kinds().count(kind) >= times + 1
        assert list(archive.list("")) == [stored]
        assert (stored.size, content(archive, stored)) == (size, data)
        archive.delete(stored)


@passing
@pytest.mark.usefixtures("small_parts")
def test_reading_listing_amending_and_deleting_survive_a_fault_that_passes(
    archive: ArchiveStore, proxy: StorageProxy, fault: Fault
) -> None:
    for size in (1_000, 200_000):
        data = random_bytes(size)
        stored = put(archive, data)
        proxy.fail(fault, "list", times=1)
        assert list(archive.list("v1/")) == [stored]
        proxy.fail(fault, "read", times=2)
        assert content(archive, stored) == data
        proxy.fail(fault, "patch", times=1)
        archive.amend(stored, custom_time=LATER)
        # An amendment that was done is told 412 the second time, and looks.
        assert proxy.kinds()[:3] == ["describe", "patch", "patch"]
        assert proxy.kinds()[3:] in ([], ["describe"])
        assert [amended.custom_time for amended in archive.list("v1/")] == [LATER]
        proxy.fail(fault, "delete", times=1)
        archive.delete(stored)  # where its reply was lost, it finds nothing the second time
        assert list(archive.list("v1/")) == []


@pytest.mark.parametrize("size", [1_000, 200_000])
@pytest.mark.usefixtures("small_parts")
def test_a_download_that_is_cut_goes_on_where_it_stopped(archive: ArchiveStore, proxy: StorageProxy, size: int) -> None:
    data = random_bytes(size)
    stored = put(archive, data)
    proxy.fail(cut_down, "read", after=0, times=2)
    assert content(archive, stored) == data


def test_uploads_ask_for_nothing_but_what_they_need(archive: ArchiveStore, proxy: StorageProxy) -> None:
    put(archive, random_bytes(1_000), "v1/small")
    put(archive, random_bytes(9 * MIB), "v1/large")
    assert proxy.kinds() == ["upload", "initiate", "chunk", "chunk", "chunk"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("kind", "use"), [("upload", lambda a: put(a, b"hello")), ("list", lambda a: list(a.list("")))]
)
def test_retry_after_is_waited_for(
    archive: ArchiveStore, proxy: StorageProxy, status: int, kind: str, use: Callable[[ArchiveStore], object]
) -> None:
    proxy.fail(answered(status, Retry_After="1"), kind, times=1)
    use(archive)
    first, second = (exchange.arrived for exchange in proxy.seen)
    assert second - first >= 1


def test_retry_after_of_an_hour_gives_up_at_once(archive: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(answered(429, Retry_After="3600"), times=1)
    with pytest.raises(ArchiveUnavailable, match="429"):
        put(archive, b"hello")
    assert proxy.kinds() == ["upload"]


@pytest.mark.parametrize("told", ["soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_retry_after_that_is_no_number_of_seconds_is_left_to_the_backoff(
    archive: ArchiveStore, proxy: StorageProxy, told: str
) -> None:
    proxy.fail(answered(429, Retry_After=told), times=2)
    put(archive, b"hello")
    assert proxy.kinds() == ["upload"] * 3
