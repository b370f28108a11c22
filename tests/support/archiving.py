"""A chat that is archived, and the states in which it may begin."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from support.keyspace import raw
from support.observed import watch
from support.sessions import purge_session, with_settings
from support.transcripts import read_transcript
from torpor.history.conversation import Conversation
from torpor.history.protocol import (
    Expiry,
    SessionNotFound,
    run_sync,
)
from torpor.worker.deployment.services import Services
from torpor.worker.ops import kind_counts
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session
from torpor.worker.wake.session_archive import SessionArchive

LARGE = 250  # three pages
POINTS = [
    "before snapshot batch",
    "after snapshot batch",
    "after read",
    "before put segment",
    "after put segment",
    "before commit batch",
    "after commit batch",
]


@dataclass
class Chat:
    """A session as its user knows it: the acknowledged messages, and those that must never come back."""

    services: Services
    session_id: str = "s"
    acknowledged: list[bytes] = field(default_factory=list)
    erased: list[bytes] = field(default_factory=list)
    said: int = 0

    def say(self, count: int = 1) -> None:
        elements = [b'{"content":"message %d."}' % number for number in range(self.said, self.said + count)]
        self.services.sessions.append(self.session_id, elements, expiry=Expiry(), owner="ann", allow_reuse=True)
        self.said += count
        self.acknowledged += elements

    def clear(self) -> None:
        self.services.sessions.clear(self.session_id)
        self._forget()

    def pop(self) -> None:
        """Take the last message back, after waking the session if necessary."""
        conversation = Conversation(
            self.services.sessions.client,
            self.session_id,
            owner="ann",
            archive=SessionArchive(self.services.archive.url),
        )
        assert run_sync(conversation.pop(lambda page: page.messages)) == self.acknowledged[-1]
        self.erased.append(self.acknowledged.pop())

    def purge(self) -> None:
        purge_session(with_settings(self.services, tombstone_seconds=1), self.session_id)
        self._forget()

    def _forget(self) -> None:
        self.erased += self.acknowledged
        self.acknowledged = []

    def sleep(self) -> None:
        """Close and drain, like a sweep, until nothing of the session is in Redis."""
        for _ in range(5):
            if not self.services.sessions.close(self.session_id):
                break
            self._leases_end()
            drain(self.services, list(self.services.sessions.due_counts()))
        assert self.services.sessions.info(self.session_id) is None

    def _leases_end(self) -> None:
        """Let the lease that was running at a clear, and a tombstone, end, so that no recheck is needed."""
        client: Any = self.services.sessions.client
        for key in raw(client, "KEYS", f"*:s:{self.session_id}"):
            raw(client, "HDEL", key, "again")
            if raw(client, "HGET", key, "until"):
                raw(client, "HSET", key, "until", 1)

    def wake(self) -> list[bytes]:
        try:
            restore_session(self.services, self.session_id)
        except SessionNotFound:
            return []
        return self.services.sessions.messages(self.session_id)

    def check(self, *, counts: bool = True) -> None:
        """Asleep or awake, the transcript has each acknowledged message once, in order, and the session is counted.

        Without `counts`: a test has overwritten keys of sessions, which stay counted.
        """
        if counts:
            self.check_counted()
        assert transcript(self.services, self.session_id) == self.acknowledged
        self.sleep()
        assert transcript(self.services, self.session_id) == self.acknowledged
        self.check_erased()
        assert self.wake() == self.acknowledged
        self.sleep()
        assert self.wake() == self.acknowledged
        if counts:
            self.check_counted()

    def check_counted(self) -> None:
        """The counts of sessions by kind are those of the sessions in Redis."""
        assert list(kind_counts.examine(self.services.sessions, repair=False)) == []

    def check_erased(self) -> None:
        kept = set(re.findall(rb"message \d+\.", b"".join(archived_bytes(self.services))))
        assert kept.isdisjoint(re.findall(rb"message \d+\.", b"".join(self.erased)))


def due_chats(services: Services, count: int) -> list[Chat]:
    chats = [Chat(services, f"chat {number}") for number in range(count)]
    for chat in chats:
        chat.say(2)
        services.sessions.close(chat.session_id)
    return chats


def archived_bytes(services: Services) -> Iterator[bytes]:
    """The content of every segment in the archive, whatever its name."""
    for stored in services.archive.list(""):
        with services.archive.open(stored) as body:
            yield gzip.decompress(body.read()) if stored.name.endswith(".gz") else b""


def transcript(services: Services, session_id: str) -> list[bytes]:
    try:
        return read_transcript(services, session_id)
    except SessionNotFound:
        return []


def new(chat: Chat) -> None:
    """All messages in Redis only."""
    chat.say(LARGE)


def slept_before(chat: Chat) -> None:
    """Earlier messages in the archive alone."""
    chat.say(3)
    archive_session(chat.services, chat.session_id)
    chat.say(LARGE)


def woken(chat: Chat) -> None:
    """Earlier messages in the archive and restored."""
    chat.say(3)
    archive_session(chat.services, chat.session_id)
    restore_session(chat.services, chat.session_id)
    chat.say(LARGE)


def kept_before(chat: Chat) -> None:
    """Earlier messages of the same epoch in the archive, as after a message that came during an upload."""
    chat.say(3)
    watched, points = watch(chat.services)
    points.at("before commit batch", lambda: chat.say(LARGE))
    assert archive_session(watched, chat.session_id).outcome is Outcome.KEPT


STATES: list[Callable[[Chat], None]] = [new, slept_before, woken, kept_before]


@dataclass(frozen=True)
class Event:
    """Something that happens while a worker works, and how its work may end."""

    name: str
    act: Callable[[Chat], object]
    outcomes: set[Outcome]


def close_and_take_over(chat: Chat) -> None:
    chat.services.sessions.close(chat.session_id)
    assert archive_session(chat.services, chat.session_id).outcome is Outcome.ARCHIVED


def take_over_and_come_back(chat: Chat) -> None:
    close_and_take_over(chat)
    chat.say(3)


def take_over_and_wake(chat: Chat) -> None:
    close_and_take_over(chat)
    assert restore_session(chat.services, chat.session_id).outcome is RestoreOutcome.RESTORED


def clear_and_erase(chat: Chat) -> None:
    chat.clear()
    outcomes = drain(chat.services, list(chat.services.sessions.due_counts()))
    assert outcomes[Outcome.ERASED] + outcomes[Outcome.ERASING] == 1


def clear_and_go_on(chat: Chat) -> None:
    chat.clear()
    chat.say(2)


def pop_and_erase(chat: Chat) -> None:
    chat.pop()
    outcomes = drain(chat.services, list(chat.services.sessions.due_counts()))
    assert outcomes[Outcome.ERASED] + outcomes[Outcome.ERASING] == 1


def pop_and_go_on(chat: Chat) -> None:
    chat.pop()
    chat.pop()
    chat.say(2)


def purge_and_go_on(chat: Chat) -> None:
    chat.purge()
    chat.say(2)


def second_worker(chat: Chat) -> None:
    assert archive_session(chat.services, chat.session_id).outcome is Outcome.BUSY
    assert drain(chat.services, list(range(4))) == {}


IN_USE = {Outcome.KEPT, Outcome.SUPERSEDED}
GONE = {Outcome.SUPERSEDED}
EVENTS = [
    Event("append", lambda chat: chat.say(2), IN_USE),
    Event("read", lambda chat: chat.services.sessions.messages(chat.session_id), IN_USE),
    Event("close", lambda chat: chat.services.sessions.close(chat.session_id), IN_USE),
    Event("clear", Chat.clear, GONE),
    Event("clear, go on", clear_and_go_on, GONE),
    Event("clear, erased by another worker", clear_and_erase, GONE),
    Event("pop", Chat.pop, GONE),
    Event("pop twice, go on", pop_and_go_on, GONE),
    Event("pop, erased by another worker", pop_and_erase, GONE),
    Event("purge", Chat.purge, GONE),
    Event("purge, go on", purge_and_go_on, GONE),
    Event("restore", lambda chat: restore_session(chat.services, chat.session_id), {*IN_USE, Outcome.ARCHIVED}),
    Event("a second worker", second_worker, {Outcome.ARCHIVED}),
    Event("archived by somebody else", close_and_take_over, GONE),
    Event("archived by somebody else, come back", take_over_and_come_back, GONE),
    Event("archived by somebody else, woken", take_over_and_wake, GONE),
]
