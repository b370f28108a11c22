"""A failure is counted only if it is proved to be the session's own; all others are the archive's."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.faulty_storage import LATER, check_archived, content, put, say
from support.identity import bind
from support.sessions import with_settings
from support.storage_proxy import Exchange, Fault, Reply, StorageProxy, answered, corrupted_up
from support.waiting import wait_until
from torpor.history.protocol import Status
from torpor.worker.archive.probe import probe
from torpor.worker.archive.stores import ArchiveStore, disk
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveCorrupt, ArchiveMisconfigured, ArchiveUnavailable, ObjectNotFound
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

ROUNDS = 4  # more than the settings' attempts


def refused(status: int, reason: str) -> Fault:
    """Every request gets this status and this reason, as Cloud Storage words it."""
    body = b'{"error": {"code": %d, "message": "%b"}}' % (status, reason.encode())
    return lambda _: Reply(status, {"Content-Type": "application/json"}, body)


EVERYBODYS: dict[str, tuple[Fault, str]] = {
    "requester pays": (refused(400, "Bucket is a requester pays bucket but no user project provided."), ""),
    "a disabled key": (refused(401, "Invalid Credentials"), ""),
    "billing": (refused(403, "The billing account for the owning project is disabled in state absent"), ""),
    "the wrong project": (refused(403, "does not have storage.objects.create access"), ""),
    "no bucket": (refused(404, "The specified bucket does not exist."), ""),
    "uploads get 400": (refused(400, "Cloud KMS key is not usable"), "upload"),
    "uploads get 404": (refused(404, "Not found"), "upload"),
    "uploads are corrupted": (corrupted_up, "upload"),
}


def due_sessions(services: Services, count: int) -> dict[str, list[bytes]]:
    said = {f"chat-{number}": say(services, f"chat-{number}", f"hello {number}") for number in range(count)}
    assert all(services.sessions.close(session_id) for session_id in said)
    return said


def rounds(services: Services, count: int) -> list[dict[Outcome, int]]:
    """The outcomes of so many drains, each when something is due again."""
    outcomes = []
    for _ in range(count):
        wait_until(services.sessions.due_counts)
        outcomes.append(dict(drain(services, list(services.sessions.due_counts()))))
    return outcomes


def check_all_sleep(services: Services, said: dict[str, list[bytes]]) -> None:
    """Nothing hinders the sessions any more: drains archive all of them."""
    archived = 0
    while archived < len(said):
        archived += rounds(services, 1)[0].get(Outcome.ARCHIVED, 0)
    for session_id, messages in said.items():
        check_archived(services, session_id, messages)


@pytest.fixture
def quick_services(services: Services) -> Services:
    return with_settings(services, concurrency=2, batch=10_000, max_attempts=2, retry_delay_seconds=0.01)


@pytest.mark.parametrize(("fault", "kind"), EVERYBODYS.values(), ids=EVERYBODYS.keys())
def test_what_meets_every_session_is_counted_for_none(
    quick_services: Services, proxy: StorageProxy, fault: Fault, kind: str
) -> None:
    said = due_sessions(quick_services, 6)
    proxy.fail(fault, kind)
    first, *later = rounds(quick_services, ROUNDS * len(said))
    assert first == {Outcome.POSTPONED: 6}
    assert all(outcome == {Outcome.POSTPONED: 1} for outcome in later)  # the breaker has opened
    assert list(quick_services.sessions.sessions(quarantined=True)) == []
    infos = [quick_services.sessions.info(session_id) for session_id in said]
    assert [info.attempts for info in infos if info] == [0] * len(said)
    proxy.heal()
    check_all_sleep(quick_services, said)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_request_that_every_session_would_meet_is_a_matter_of_settings(
    archive: ArchiveStore, proxy: StorageProxy, status: int
) -> None:
    stored = put(archive, b"hello")
    proxy.fail(answered(status))
    for use in (
        archive.check,
        lambda: put(archive, b"new", "v1/new"),
        lambda: list(archive.list("v1/")),
        lambda: content(archive, stored),
        lambda: archive.amend(stored, custom_time=LATER),
    ):
        with pytest.raises(ArchiveMisconfigured):
            use()
    if status != 403:  # Cloud Storage also answers 403 for an object that is held or retained
        with pytest.raises(ArchiveMisconfigured):
            archive.delete(stored)


def test_a_missing_object_is_not_taken_for_a_missing_bucket(archive: ArchiveStore) -> None:
    stored = put(archive, b"hello")
    assert archive.delete(stored)
    assert not archive.delete(stored)
    with pytest.raises(ObjectNotFound):
        content(archive, stored)
    with pytest.raises(ObjectNotFound):
        archive.amend(stored, custom_time=LATER)


def test_what_one_session_alone_meets_is_its_own(quick_services: Services, proxy: StorageProxy) -> None:
    said = due_sessions(quick_services, 4)

    def only_one(exchange: Exchange) -> Reply:
        return answered(400)(exchange) if re.search(rb"/chat-2/", exchange.body) else exchange.forward()

    proxy.fail(only_one, "upload")
    rounds(quick_services, 2)
    assert list(quick_services.sessions.sessions(quarantined=True)) == ["chat-2"]
    info = quick_services.sessions.info("chat-2")
    assert info
    assert (info.status, info.attempts) == (Status.QUARANTINED, 2)
    assert [stored.name for stored in quick_services.archive.list("v1/probe")] == []
    for session_id in said.keys() - {"chat-2"}:
        check_archived(quick_services, session_id, said[session_id])


@pytest.mark.parametrize("fault", [answered(503), answered(403), answered(400)], ids=["503", "403", "400"])
@pytest.mark.usefixtures("impatient")
def test_an_archive_that_fails_while_it_is_probed_is_blamed(
    quick_services: Services, proxy: StorageProxy, fault: Fault
) -> None:
    due_sessions(quick_services, 1)

    def refuses(exchange: Exchange) -> Reply:
        first = len([each for each in proxy.seen if each.kind == "upload"]) == 1
        return answered(400)(exchange) if first else fault(exchange)

    proxy.fail(refuses, "upload")
    assert rounds(quick_services, 1) == [{Outcome.POSTPONED: 1}]
    info = quick_services.sessions.info("chat-0")
    assert info
    assert info.attempts == 0


def test_a_probe_that_a_retention_keeps_is_found_again(archive: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(answered(403), "delete")
    probe(archive)
    probe(archive)
    proxy.heal()
    probe(archive)
    assert list(archive.list("")) == []


def test_a_probe_tells_an_archive_that_gives_back_other_bytes(archive: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(lambda exchange: Reply(200, {}, b"other bytes"), "read")
    with pytest.raises(ArchiveUnavailable):
        probe(archive)


# A folder


@pytest.fixture
def folder(quick_services: Services, tmp_path: Path) -> Services:
    """The same sessions with a folder as their archive."""
    services = replace(quick_services, archive=open_archive((tmp_path / "archive").as_uri()))
    bind(services)
    return services


def check_postponed(services: Services, count: int) -> None:
    for outcome in rounds(services, ROUNDS * count):
        assert set(outcome) == {Outcome.POSTPONED}
    assert list(services.sessions.sessions(quarantined=True)) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, ArchiveMisconfigured),
        (errno.EPERM, ArchiveMisconfigured),
        (errno.EROFS, ArchiveMisconfigured),
        (errno.ENOSPC, ArchiveUnavailable),
        (errno.EDQUOT, ArchiveUnavailable),
        (errno.EIO, ArchiveUnavailable),
        (errno.ESTALE, ArchiveUnavailable),
    ],
    ids=errno.errorcode.get,
)
def test_what_meets_every_file_of_a_folder_is_counted_for_no_session(
    folder: Services, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[ArchiveUnavailable]
) -> None:
    said = due_sessions(folder, 2)

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk, "copy", fails)
    check_postponed(folder, 2)
    with pytest.raises(ArchiveUnavailable) as caught:
        put(folder.archive, b"hello")
    assert type(caught.value) is kind
    monkeypatch.undo()
    check_all_sleep(folder, said)


def test_a_folder_whose_file_system_is_gone_is_not_begun_anew(folder: Services, tmp_path: Path) -> None:
    earlier = say(folder, "earlier", "one")
    folder.sessions.close("earlier")
    assert rounds(folder, 1) == [{Outcome.ARCHIVED: 1}]
    said = due_sessions(folder, 2)
    shutil.move(tmp_path / "archive", tmp_path / "elsewhere")
    check_postponed(folder, 2)
    uses: list[Callable[[], object]] = [folder.archive.check, lambda: list(folder.archive.list(""))]
    for use in uses:
        with pytest.raises(ArchiveMisconfigured, match="has disappeared"):
            use()
    assert not (tmp_path / "archive").exists()
    shutil.move(tmp_path / "elsewhere", tmp_path / "archive")
    check_all_sleep(folder, said)
    check_archived(folder, "earlier", earlier)


def test_an_upload_that_only_this_object_meets_stays_its_own(archive: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(answered(400), "upload", times=1)
    with pytest.raises(ArchiveCorrupt):
        put(archive, b"hello")
    assert content(archive, put(archive, b"hello")) == b"hello"
