"""A process that is killed while it writes to a folder."""

from __future__ import annotations

import io
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from support.rewinding import Killed, S, chat, described, die, end_lease, killed_at, say, sleep
from torpor.history.protocol import (
    Expiry,
)
from torpor.worker.archive.stores.folder import FolderStore
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

# A folder whose writer is killed

NAME = "v1/ab/s/1/0-1-01234567.jsonl.gz"


def unlink_one_file(patch: pytest.MonkeyPatch) -> None:
    """Die between an object's file and its description."""
    unlink = Path.unlink

    def unlink_one(path: Path, **options: Any) -> None:
        if path.name.endswith(".json"):
            die()
        unlink(path, **options)

    patch.setattr(Path, "unlink", unlink_one)


@dataclass
class Folder:
    root: Path

    def put(self) -> None:
        """Put an object as a process that has just started does."""
        FolderStore(self.root).put(NAME, io.BytesIO(b"content"), 7, metadata={"count": "1"})

    def erase(self) -> None:
        store = FolderStore(self.root)
        for stored in store.list("v1/", generations=True):
            assert store.delete(stored)

    def put_killed(self, patch: pytest.MonkeyPatch, module: Any, step: str) -> None:
        """Put an object in a process that is killed, so that nothing is cleaned up."""
        with patch.context() as killing:
            killing.setattr(module, step, die)
            killing.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(Killed):
                self.put()

    def files(self, under: str = "") -> list[str]:
        found = (self.root / under).rglob("*")
        return sorted(path.relative_to(self.root).as_posix() for path in found if path.is_file())

    def list(self) -> list[tuple[str, dict[str, str]]]:
        return [(stored.name, dict(stored.metadata)) for stored in FolderStore(self.root).list("v1/")]

    def read(self) -> bytes:
        store = FolderStore(self.root)
        [stored] = store.list(NAME)
        with store.open(stored) as body:
            return body.read()


@pytest.fixture
def folder(scratch: Path) -> Folder:
    return Folder(scratch / "archive")


@pytest.mark.parametrize(("module", "step"), [(os, "fsync"), (Path, "replace"), (os, "link")])
def test_a_put_that_is_killed_leaves_no_object(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, module: Any, step: str
) -> None:
    folder.put()
    folder.erase()
    folder.put_killed(monkeypatch, module, step)
    assert folder.list() == []
    folder.put()
    assert folder.list() == [(NAME, {"count": "1"})]
    assert folder.read() == b"content"


@pytest.mark.parametrize("removed_by", ["an erasure", "the expiry"])
def test_what_a_killed_put_knew_of_an_object_is_removed_by_an_erasure_and_by_the_expiry(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, removed_by: str
) -> None:
    folder.put_killed(monkeypatch, os, "link")
    assert folder.files("v1") == [f"{NAME}=.meta.json"]
    if removed_by == "an erasure":
        [left] = FolderStore(folder.root).list("v1/", generations=True)
        assert (left.name, left.size, left.current) == (NAME, 0, False)
        assert FolderStore(folder.root).delete(left) is True
        assert FolderStore(folder.root).delete(left) is False
    else:
        assert FolderStore(folder.root).expire(datetime.now(UTC)) == 0
    assert not (folder.root / "v1").exists()
    assert list(FolderStore(folder.root).list("", generations=True)) == []


def test_a_deletion_that_is_killed_is_finished_by_the_next(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put()
    with monkeypatch.context() as killing:
        unlink_one_file(killing)
        with pytest.raises(Killed):
            folder.erase()
    assert folder.list() == []
    folder.erase()
    assert not (folder.root / "v1").exists()


def test_a_deletion_that_is_killed_is_finished_by_one_who_had_listed_the_object_before(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put()
    store = FolderStore(folder.root)
    [listed] = store.list(NAME)
    with monkeypatch.context() as killing:
        unlink_one_file(killing)
        with pytest.raises(Killed):
            folder.erase()
    assert store.delete(listed) is False
    assert list(store.list("", generations=True)) == []


def test_what_killed_puts_left_is_removed_an_hour_later_by_the_next_process(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put_killed(monkeypatch, os, "link")
    [old] = folder.files("tmp")
    folder.put_killed(monkeypatch, os, "link")
    [young] = set(folder.files("tmp")) - {old}
    for name, minutes in ((old, 61), (young, 59)):
        moment = time.time() - 60 * minutes
        os.utime(folder.root / name, (moment, moment))
    folder.put()
    assert folder.files("tmp") == [young]
    assert folder.list() == [(NAME, {"count": "1"})]


def test_an_object_whose_metadata_was_lost_is_readable_and_described_again_by_the_next_put(folder: Folder) -> None:
    folder.put()
    (folder.root / f"{NAME}=.meta.json").unlink()
    assert folder.list() == [(NAME, {})]
    assert folder.read() == b"content"
    folder.put()
    assert folder.list() == [(NAME, {"count": "1"})]
    assert folder.read() == b"content"


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_session_whose_worker_was_killed_before_the_metadata_of_its_segment_wakes_up_whole(
    client: redis.Redis, services: Services, scratch: Path
) -> None:
    say(client, "0", owner="ann", ttl=3600)
    with killed_at(Failpoint.ARCHIVE_SENT):
        archive_session(services, S)
    [metadata] = (path for path in (scratch / "archive").rglob("*.jsonl.gz=.meta.json"))
    metadata.unlink()
    end_lease(client, services)
    sleep(services)
    restore_session(services, S)
    assert [message.content for message in chat(client, owner="ann").messages] == ["0"]
    assert described(services).expiry == Expiry(timedelta(hours=1))
