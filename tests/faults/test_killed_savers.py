"""A process that is killed between two commands of a copy or of a pruning, which another process then does again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.rewinding import Killed
from support.savers import checkpoint, config, seen
from support.transcripts import read_transcript
from support.watched_clients import WatchedRedis
from torpor import MemorystoreSaver, SessionArchive
from torpor.history.protocol import SessionExists
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

TURNS = 4


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads have several pages, and the restore of a process that has died keeps others waiting for a second."""
    monkeypatch.setattr("torpor.history.store.reading.PAGE_BYTES", 1_000)
    monkeypatch.setattr("torpor.worker.wake.session_archive._LEASE", timedelta(seconds=1))


class Process:
    """A saver of a process that dies before one of its commands, and sends none from then on."""

    def __init__(self, watched: WatchedRedis, services: Services, step: int) -> None:
        self.died = False
        self._left = step
        watched.before = self._count
        self.saver = MemorystoreSaver(watched, archive=SessionArchive(services.archive.url))

    def _count(self, _: str) -> None:
        self.died = self._left == 0
        if self.died:
            raise Killed
        self._left -= 1

    def run(self, act: Callable[[MemorystoreSaver], None]) -> None:
        with suppress(Killed):
            act(self.saver)


def prepare(client: redis.Redis, services: Services, thread: str, *, asleep: bool) -> MemorystoreSaver:
    """Write a thread that may then sleep; returns a saver of another process."""
    saver = MemorystoreSaver(client)
    where: Any = config(thread)
    messages: list[Any] = []
    version = None
    for number in range(TURNS):
        messages = [*messages, HumanMessage(f"message {number} ".ljust(200, "x"))]
        version = saver.get_next_version(version, None)
        made = checkpoint({"messages": messages}, {"messages": version})
        where = saver.put(where, made, {"source": "loop", "step": number, "parents": {}}, {"messages": version})
        saver.put_writes(where, [("messages", messages[-1:])], f"task {number}", "~pull, model")
    archive = SessionArchive(services.archive.url)
    sleep(services, thread)
    if not asleep:
        list(MemorystoreSaver(client, archive=archive).list(config(thread)))
    return MemorystoreSaver(client, archive=archive)


def sleep(services: Services, thread: str) -> None:
    assert archive_session(services, thread).outcome is Outcome.ARCHIVED


@pytest.fixture(autouse=True)
def _staged(client: redis.Redis) -> Iterator[None]:
    """What a restore that was killed has staged expires."""
    yield
    for key in client.scan_iter(b"*:r:*"):
        assert client.pttl(key) > 0
        client.delete(key)


def listed(saver: MemorystoreSaver, thread: str) -> list[Any]:
    return seen(list(saver.list(config(thread))))


@pytest.mark.parametrize("asleep", [False, True])
def test_a_copy_that_is_killed_leaves_all_of_a_thread_or_nothing(
    client: redis.Redis, watched: WatchedRedis, services: Services, *, asleep: bool
) -> None:
    for step in range(100):
        source, target = f"s{step}", f"t{step}"
        saver = prepare(client, services, source, asleep=asleep)
        process = Process(watched, services, step)
        process.run(lambda saver, source=source, target=target: saver.copy_thread(source, target))  # type: ignore[misc]
        copied, expected = listed(saver, target), listed(saver, source)
        assert len(expected) == TURNS
        assert copied in ([], expected)
        if not process.died:
            assert step > 3
            assert copied
            return
        if copied:
            with pytest.raises(SessionExists):
                saver.copy_thread(source, target)
        else:
            saver.copy_thread(source, target)
        sleep(services, target)
        assert listed(saver, target) == expected == listed(saver, source)
    pytest.fail("the copy does not end")


@pytest.mark.parametrize("asleep", [False, True])
def test_a_pruning_that_is_killed_leaves_a_thread_as_it_was_or_pruned(
    client: redis.Redis, watched: WatchedRedis, services: Services, *, asleep: bool
) -> None:
    for step in range(100):
        thread = f"s{step}"
        saver = prepare(client, services, thread, asleep=asleep)
        process = Process(watched, services, step)
        process.run(lambda saver, thread=thread: saver.prune([thread]))  # type: ignore[misc]
        found = listed(saver, thread)
        assert len(found) == (TURNS if process.died else 1)
        latest = found[:1]
        saver.prune([thread])
        assert listed(saver, thread) == latest
        archive_session(services, thread)  # erases what the archive had
        archive_session(services, thread)
        assert len(read_transcript(services, thread)) == 2
        assert listed(saver, thread) == latest
        if not process.died:
            assert step > 2
            return
    pytest.fail("the pruning does not end")
