"""A fault of each single page and request of an archive and of a restore."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from support.faulty_storage import check_archived, long_text, put, requests_of, say
from support.keyspace import dump
from support.storage_proxy import (
    Fault,
    StorageProxy,
    answered,
    cut_down,
    reset_after,
    reset_before,
)
from support.transcripts import read_transcript
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores import objects as objects_module
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

# Page by page, request by request


@pytest.mark.usefixtures("impatient")
def test_a_listing_whose_second_page_fails_is_whole_or_an_error(
    archive: ArchiveStore, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"v1/{number}" for number in range(5)]
    for name in names:
        put(archive, b"hello", name)
    two_a_page = objects_module._LISTED.replace(f"maxResults={objects_module._PAGE}", "maxResults=2")
    monkeypatch.setattr(objects_module, "_LISTED", two_a_page)
    proxy.heal()
    assert [stored.name for stored in archive.list("v1/")] == names
    assert proxy.kinds() == ["list"] * 3
    for fault in (reset_after, cut_down, answered(503)):
        proxy.fail(fault, "list", after=1, times=1)
        assert [stored.name for stored in archive.list("v1/")] == names
        proxy.fail(fault, "list", after=1)
        with pytest.raises(ArchiveUnavailable):
            list(archive.list("v1/"))


EVERY = {"503": answered(503), "reset before": reset_before, "reset after": reset_after, "cut": cut_down}
every = pytest.mark.parametrize("fault", EVERY.values(), ids=EVERY.keys())


def new(services: Services, session_id: str) -> list[bytes]:
    """A session that was never archived: a marker and a segment."""
    return say(services, session_id, "one", "two", owner="ann")


def grown(services: Services, session_id: str) -> list[bytes]:
    """A session that has come back and grown by much: a resumable upload and a listing."""
    new(services, session_id)
    archive_session(services, session_id)
    restore_session(services, session_id)
    return say(services, session_id, *(long_text(150_000) for _ in range(4)), owner="ann")


Prepare = Callable[[Services, str], list[bytes]]
prepared = pytest.mark.parametrize(("prepare", "segments"), [(new, 1), (grown, 2)], ids=["new", "grown"])


@every
@prepared
@pytest.mark.usefixtures("small_parts")
def test_an_archive_survives_a_fault_of_any_one_request(
    services: Services, proxy: StorageProxy, fault: Fault, prepare: Prepare, segments: int
) -> None:
    prepare(services, "clean")
    for after in range(requests_of(proxy, lambda: archive_session(services, "clean"))):
        proxy.heal()
        acknowledged = prepare(services, f"s{after}")
        proxy.fail(fault, after=after, times=1)
        assert archive_session(services, f"s{after}").outcome is Outcome.ARCHIVED
        proxy.heal()
        check_archived(services, f"s{after}", acknowledged, segments)


@every
@prepared
@pytest.mark.usefixtures("small_parts", "impatient")
def test_an_archive_that_stops_at_any_request_is_finished_by_the_next(
    services: Services,
    proxy: StorageProxy,
    fault: Fault,
    prepare: Prepare,
    segments: int,
) -> None:
    prepare(services, "clean")
    for after in range(requests_of(proxy, lambda: archive_session(services, "clean"))):
        session_id = f"s{after}"
        proxy.heal()
        acknowledged = prepare(services, session_id)
        proxy.fail(fault, after=after)
        assert archive_session(services, session_id).outcome is Outcome.POSTPONED
        info = services.sessions.info(session_id)
        assert info
        assert info.attempts == 0
        assert services.sessions.messages(session_id, touch=False) == acknowledged
        proxy.heal()
        assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
        check_archived(services, session_id, acknowledged, segments)


@every
@pytest.mark.usefixtures("small_parts")
def test_a_restore_survives_a_fault_of_any_one_request(services: Services, proxy: StorageProxy, fault: Fault) -> None:
    acknowledged = grown(services, "s")
    archive_session(services, "s")
    for after in range(requests_of(proxy, lambda: read_transcript(services, "s"))):
        proxy.fail(fault, after=after, times=1)
        assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED
        assert services.sessions.messages("s", touch=False) == acknowledged
        proxy.heal()
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    check_archived(services, "s", acknowledged, segments=2)


@every
@pytest.mark.usefixtures("small_parts", "impatient")
def test_a_restore_that_fails_at_any_request_changes_nothing_and_succeeds_afterwards(
    services: Services, client: redis.Redis, proxy: StorageProxy, fault: Fault
) -> None:
    acknowledged = grown(services, "s")
    archive_session(services, "s")
    count = requests_of(proxy, lambda: read_transcript(services, "s"))
    assert count > 10
    before = dump(client)
    for after in range(count):
        proxy.fail(fault, after=after)
        with pytest.raises(ArchiveUnavailable):
            restore_session(services, "s")
        assert dump(client) == before
    proxy.heal()
    assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED
    assert services.sessions.messages("s", touch=False) == acknowledged
