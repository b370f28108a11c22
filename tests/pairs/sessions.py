"""Sessions whose worker meets faults: how they begin, what the user does meanwhile, and what must be so in the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from support.keyspace import raw
from support.observed import watch
from support.transcripts import read_transcript
from torpor.history.fields import STORED
from torpor.history.protocol import Expiry, SessionInfo, SessionNotFound
from torpor.worker.archive import contents, transcript
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.stores import NEVER, StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import erase
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

MONTH = timedelta(days=30)
OWNER = "ann"
_ROUNDS = 10


@dataclass
class Subject:
    """A session as its user knows it."""

    services: Services
    session_id: str
    messages: list[bytes] = field(default_factory=list)
    expiry: Expiry = field(default_factory=lambda: Expiry(idle=timedelta(hours=1), retention=MONTH))
    said: int = 0

    # What the user does

    def say(self, count: int = 1) -> None:
        said = [b'{"content":"message %d"}' % number for number in range(self.said, self.said + count)]
        self.services.sessions.append(self.session_id, said, expiry=self.expiry, owner=OWNER)
        self.said += count
        self.messages += said

    def clear(self) -> None:
        self.services.sessions.clear(self.session_id)
        self.messages = []

    def change_expiry(self) -> None:
        info = self.services.sessions.info(self.session_id)
        if info is None or not info.complete:
            self.wake()
        self.expiry = replace(self.expiry, idle=timedelta(hours=2), retention=2 * MONTH)
        idle, retention = self.expiry.idle, self.expiry.retention
        self.services.sessions.update(self.session_id, idle=idle, retention=retention)

    def wake(self) -> None:
        restore_session(self.services, self.session_id)

    # What its workers do

    def fall_asleep(self) -> None:
        result = archive_session(self.services, self.session_id)
        assert result.outcome is Outcome.ARCHIVED, result

    def end_lease(self) -> None:
        """Let the lease of a worker end. Its uploads may still be on their way."""
        self.services.sessions.close(self.session_id)

    def wait(self) -> None:
        """Let the lease of a worker end, also if it was at work at a clear, and let its uploads arrive."""
        self.end_lease()
        session, keyspace = self.session_id.encode(), self.services.sessions.deployment.keyspace
        keys = keyspace.shard(keyspace.shard_of(session))
        raw(self.services.sessions.client, "HDEL", keys.metadata(session), STORED["recheck_at"])

    def settle(self) -> None:
        """Work on the session until nothing of it is left in Redis."""
        with pytest.MonkeyPatch.context() as later:
            later.setattr(erase, "_LATEST", timedelta())  # no upload is on its way any more
            for _ in range(_ROUNDS):
                self.wait()
                result = archive_session(self.services, self.session_id)
                if self.services.sessions.info(self.session_id) is None:
                    return
        raise AssertionError(f"never quiet: {result}")

    # What must be so

    def check_readable(self) -> None:
        """At every moment, in Redis and the archive together, the session has all its messages."""
        assert self._read() == self.messages

    def check_asleep(self) -> None:
        """The archive has the whole session, its description and its marker, and nothing below its floor."""
        assert self._read() == self.messages
        found = contents.look(self.services.archive, self.session_id, generations=True)
        assert not found.erasable, f"left below the floor: {[each.name for each in found.erasable]}"
        marked = contents.owner_markers(self.services.archive, OWNER, self.session_id, generations=True)
        assert all(epoch >= found.floor for epoch, _ in marked), f"left below the floor: {marked}"
        if not found.segments:
            assert not self.messages
            return
        assert found.segments[-1].name.epoch in [epoch for epoch, _ in marked], "no marker leads to the session"
        self._check_expiry(found, dict(marked))

    def _check_expiry(self, found: Contents, marked: dict[int, StoredObject]) -> None:
        """The parts that make up the session are kept to the end of its retention, and none is kept for longer."""
        assert self.expiry.retention
        until = datetime.now(UTC) + self.expiry.retention
        ends = {each.stored.custom_time or NEVER for each in found.segments}
        assert max(ends) <= until, f"kept for too long: {ends}"
        lasting = [each for each in found.segments if until - (each.stored.custom_time or NEVER) < timedelta(minutes=5)]
        planned = transcript.plan(self.services.archive, replace(found, segments=lasting))
        assert planned.count == len(self.messages), f"not all are kept for long enough: {ends}"
        assert (marked[max(marked)].custom_time or NEVER) >= max(ends), "the marker ends before the segments"

    def check_awake(self) -> None:
        """A restore gives back the messages, the owner and the expiry."""
        if not self.messages:
            with suppress(SessionNotFound):
                assert restore_session(self.services, self.session_id).outcome is RestoreOutcome.COMPLETE
            return
        assert restore_session(self.services, self.session_id).outcome is RestoreOutcome.RESTORED
        assert self.services.sessions.messages(self.session_id) == self.messages
        info = self.services.sessions.info(self.session_id)
        assert isinstance(info, SessionInfo)
        assert (info.owner, info.expiry, info.complete) == (OWNER, self.expiry, True)

    def _read(self) -> list[bytes]:
        try:
            return read_transcript(self.services, self.session_id)
        except SessionNotFound:
            return []


# How a session begins, and the work at which a worker meets faults

Work = Callable[[Subject, Services], object]


def sleep(subject: Subject, services: Services) -> object:
    return archive_session(services, subject.session_id)


def _wake(subject: Subject, services: Services) -> object:
    return restore_session(services, subject.session_id)


def _slept(subject: Subject) -> None:
    for _ in range(2):
        subject.say(2)
        subject.fall_asleep()


def _woken(subject: Subject) -> None:
    subject.say(2)
    subject.fall_asleep()
    subject.wake()
    subject.say(2)


def _kept(subject: Subject) -> None:
    subject.say(2)
    watched, points = watch(subject.services)
    points.at("before commit batch", subject.say)
    assert archive_session(watched, subject.session_id).outcome is Outcome.KEPT


def _clear_and_say(subject: Subject) -> None:
    subject.clear()
    subject.say()


def _cleared(subject: Subject) -> None:
    _slept(subject)
    _clear_and_say(subject)


@dataclass(frozen=True)
class Path:
    """A session that begins in one way, and the work that is struck."""

    name: str
    begin: Callable[[Subject], None]
    work: Work

    def __str__(self) -> str:
        return self.name


PATHS = [
    Path("first sleep", lambda subject: subject.say(2), sleep),
    Path("sleep after a wake", _woken, sleep),
    Path("sleep after an upload that was kept", _kept, sleep),
    Path("sleep after a clear", _cleared, sleep),
    Path("wake", _slept, _wake),
]


# What happens between the two faults


@dataclass(frozen=True)
class Between:
    """What the user does after the first fault, and the work of the second worker."""

    name: str
    act: Callable[[Subject], None]
    work: Work = sleep

    def __str__(self) -> str:
        return self.name


BETWEEN = [
    Between("nothing", lambda _: None),
    Between("a message", Subject.say),
    Between("another expiry", Subject.change_expiry),
    Between("a clear", Subject.clear),
    Between("a clear and a message", _clear_and_say),
    Between("a reader", lambda _: None, _wake),
]
