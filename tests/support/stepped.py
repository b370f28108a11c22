"""What the state machine drives: product functions that stop before each call to Redis or to the archive.

Only one thread runs at any time, and who runs next is the machine's decision, so a run can be repeated exactly.
"""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, BinaryIO, Self, TypeVar

from torpor.history.calls import Call
from torpor.history.protocol import Lease, RedisUnavailable, SessionStore, TorporError
from torpor.worker.archive.stores import ArchiveStore, Safeguards, StoredObject
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, ArchiveUnavailable, ObjectNotFound
from torpor.worker.sleep.leases import LeaseKeeper

T = TypeVar("T")

_LISTED_AT_A_TIME = 2
_PAGE_BYTES = 20  # two or three messages


class Fault(StrEnum):
    """What befalls the next call of a task."""

    REFUSED = "refused"  # nothing happened
    REPLY_LOST = "reply lost"  # it happened, and the caller is told that it failed
    SENT_TWICE = "sent twice"  # it happened, the reply was lost, and the client sends it again, maybe much later
    POISON = "poison"  # an error that won't pass, where the call can raise one


class _Killed(BaseException):
    """Unwinds the thread of a task that never continues."""


class Task:
    """A product function in a thread of its own that stops before each call to a store."""

    def __init__(self, name: str, session_id: str | None) -> None:
        self.name = name
        self.session_id = session_id  # None: more than one
        self.waits_for = ""  # the call that it has stopped before
        self.keeper: Keeper | None = None
        self.tokens: list[bytes] = []  # of the restores that it began
        self.faulted = False
        self.overtaken = 0  # by so many other writes since its own was first sent
        self.done = False
        self.result: object = None
        self.error: Exception | None = None
        self._fault: Fault | None = None
        self._killed = False
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)

    def start(self, body: Callable[[], object]) -> None:
        """Run `body` until its first call."""
        self._thread = threading.Thread(target=self._run, args=[body], name=self.name, daemon=True)
        self._thread.start()
        self._wait()

    def step(self, fault: Fault | None = None) -> None:
        """Make the call that is waited for, and run until the next one or to the end."""
        self._fault = fault
        self.faulted = self.faulted or fault is not None
        self._go.release()
        self._wait()

    def kill(self) -> None:
        """Stop for good before the call that is waited for, as kill -9 does."""
        self._killed = True
        while not self.done:
            self._go.release()
            self._wait()
        self._thread.join()

    def stop_before(self, call: str) -> Fault | None:
        """For the stores: wait for the machine's word, and learn what is to befall the call."""
        if self._killed:
            raise _Killed
        self.waits_for = call
        self._stopped.release()
        self._go.acquire()
        if self._killed:
            raise _Killed
        fault, self._fault = self._fault, None
        return fault

    def _run(self, body: Callable[[], object]) -> None:
        try:
            self.result = body()
        except _Killed:
            self.result = "killed"
        except Exception as error:
            self.error = error
        self.done = True
        self._stopped.release()

    def _wait(self) -> None:
        assert self._stopped.acquire(timeout=60), f"{self.name} is stuck after {self.waits_for}"


@dataclass
class Clock:
    """Lets time pass for sessions by moving their scores to the past, which is all that Redis knows of time.

    A lease that ends keeps its token in reality: nobody else has the session before the next claim. So the tokens
    that callers hold stand for the moved scores from then on.
    """

    past: Iterator[int] = field(default_factory=lambda: itertools.count(1_000))
    moved: dict[tuple[bytes, float], bytes] = field(default_factory=dict)

    def pass_by(self, session: bytes, score: float) -> bytes:
        """The score, long past, that a session is to have in place of `score`."""
        fresh = b"%d%s" % (next(self.past), b".5" if score % 1 else b"")
        for old, token in self.moved.items():
            if old[0] == session and float(token) == score:
                self.moved[old] = fresh
        self.moved[session, score] = fresh
        return fresh

    def token(self, session: bytes, token: bytes) -> bytes:
        """The score that a token stands for now."""
        return self.moved.get((session, float(token)), token)

    def forget(self, session: bytes, token: bytes) -> None:
        """A token that is given a second time within a millisecond is a new one."""
        self.moved.pop((session, float(token)), None)


_WITH_LEASE = {"snapshot", "renew", "commit", "release", "note_erased"}


class SteppedSessions(SessionStore):
    """The real store. With a task, it stops before each call; a pipeline's calls come one by one."""

    clock: Clock
    task: Task | None = None
    heard: Callable[[Call[Any], object], None]  # is told of each call that was made, once

    def of(self, task: Task) -> Self:
        """The same store for a task."""
        mine = type(self)(self.client, shards=1)
        mine.clock, mine.heard, mine.task = self.clock, self.heard, task
        return mine

    async def perform(self, call: Call[T]) -> T:
        name = call.script.name
        fault = self.task.stop_before(name) if self.task else None
        if fault in (Fault.REFUSED, Fault.POISON):
            raise RedisUnavailable("connection refused")
        if name == "read" and self.task:
            call = replace(call, args=[*call.args[:6], _PAGE_BYTES, *call.args[7:]])
        result = await super().perform(self._moved(call))
        self.heard(call, result)
        if fault is Fault.SENT_TWICE and self.task:
            self.task.stop_before(f"{name} again")
            result = await super().perform(self._moved(call))
        if name == "restore" and self.task and isinstance(call.args[1], bytes):
            self.task.tokens.append(call.args[1])
        for lease in result if isinstance(result, list) else [result]:
            if isinstance(lease, Lease) and name in ("claim", "seize"):
                self.clock.forget(lease.session_id.encode(), lease.token)
        if fault is Fault.REPLY_LOST:
            raise RedisUnavailable("time-out while reading the reply")
        return result

    def _moved(self, call: Call[T]) -> Call[T]:
        """The same call with what stands for its tokens now."""
        if call.script.name not in _WITH_LEASE:
            return call
        session, *rest = call.args
        assert isinstance(session, bytes)
        tokens = 2 if call.script.name == "renew" else 1
        moved = [self.clock.token(session, token) for token in rest[:tokens] if isinstance(token, bytes)]
        return replace(call, args=[session, *moved, *rest[tokens:]])

    def run_many(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        if self.task is None:
            return [self.run(call) for call in many]
        outcomes: list[T | TorporError] = []
        for call in many:
            try:
                outcomes.append(self.run(call))
            except TorporError as error:
                outcomes.append(error)
        return outcomes


class Keeper(LeaseKeeper):
    """The real keeper of leases, without its thread: it renews when the machine says so."""

    def __init__(self, sessions: SteppedSessions, duration: timedelta) -> None:
        direct = sessions
        if sessions.task:
            sessions.task.keeper = self
            direct = sessions.of(sessions.task)
            direct.task = None
        super().__init__(direct, duration)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def renew(self) -> None:
        """Do what the thread does each third of a lease."""
        self._renew()


@dataclass(frozen=True)
class SteppedArchive:
    """A real archive store that stops its task before each call, and again after every two objects of a list."""

    real: ArchiveStore
    task: Task

    @property
    def url(self) -> str:
        return self.real.url

    def put(
        self,
        name: str,
        body: BinaryIO,
        size: int,
        *,
        metadata: Mapping[str, str],
        custom_time: datetime | None = None,
        held: bool = False,
    ) -> StoredObject:
        with self._call(f"put {name.rpartition('/')[2]}", ArchiveConflict):
            return self.real.put(name, body, size, metadata=metadata, custom_time=custom_time, held=held)

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        found = self.real.list(prefix, generations=generations)
        while True:
            with self._call("list"):
                page = list(itertools.islice(found, _LISTED_AT_A_TIME))
            yield from page
            if len(page) < _LISTED_AT_A_TIME:
                return

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        with self._call("open"), self.real.open(stored) as body:
            opened = io.BytesIO(body.read())
        yield opened

    def delete(self, stored: StoredObject) -> bool:
        with self._call(f"delete {stored.name.rpartition('/')[2]}"):
            return self.real.delete(stored)

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        with self._call(f"amend {stored.name.rpartition('/')[2]}"):
            self.real.amend(stored, custom_time=custom_time, held=held)

    def expire(self, now: datetime) -> int:
        return self.real.expire(now)

    def safeguards(self) -> Safeguards | None:
        return self.real.safeguards()

    def apply_lifecycle(self) -> bool:
        return self.real.apply_lifecycle()

    def check(self) -> None:
        self.real.check()

    @contextmanager
    def _call(self, call: str, poison: type[TorporError] = ArchiveUnavailable) -> Iterator[None]:
        fault = self.task.stop_before(call)
        if fault is Fault.POISON:
            raise poison("injected")
        if fault is Fault.REFUSED:
            raise ArchiveUnavailable("503")
        yield
        if fault is Fault.REPLY_LOST:
            raise ArchiveUnavailable("connection reset")


class MemoryArchive:
    """An archive store in memory. A list reads two names at a time, as pages of a bucket's list are."""

    url = "memory://"

    def __init__(self) -> None:
        self._objects: dict[str, tuple[StoredObject, bytes]] = {}
        self._generations = itertools.count(1)

    def put(
        self,
        name: str,
        body: BinaryIO,
        size: int,
        *,
        metadata: Mapping[str, str],
        custom_time: datetime | None = None,
        held: bool = False,
    ) -> StoredObject:
        body.seek(0)
        content = body.read()
        assert len(content) == size
        new = StoredObject(name, size, next(self._generations), dict(metadata), custom_time, held)
        stored, there = self._objects.setdefault(name, (new, content))
        if there != content:
            raise ArchiveConflict(f"{name} exists with other content")
        self.amend(stored, custom_time=custom_time, held=held or None)
        return self._objects[name][0]

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        after = ""
        while names := sorted(name for name in self._objects if name.startswith(prefix) and name > after):
            after = names[:_LISTED_AT_A_TIME][-1]
            yield from [self._objects[name][0] for name in names[:_LISTED_AT_A_TIME]]

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        if stored.name not in self._objects:
            raise ObjectNotFound(f"{stored.name} does not exist")
        yield io.BytesIO(self._objects[stored.name][1])

    def delete(self, stored: StoredObject) -> bool:
        if not (there := self._generation(stored)):
            return False
        if there.held:
            raise ArchiveRefused(f"{stored.name} may not be deleted: it is held", held=True)
        del self._objects[stored.name]
        return True

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        if not (there := self._generation(stored)):
            raise ObjectNotFound(f"{stored.name} does not exist")
        moments = [moment for moment in (there.custom_time, custom_time) if moment]
        held = there.held if held is None else held
        amended = replace(there, custom_time=max(moments, default=None), held=held)
        self._objects[stored.name] = amended, self._objects[stored.name][1]

    def expire(self, now: datetime) -> int:
        expired = [each for each, _ in self._objects.values() if each.custom_time and each.custom_time <= now]
        return sum(self.delete(each) for each in expired if not each.held)

    def safeguards(self) -> Safeguards | None:
        return None

    def apply_lifecycle(self) -> bool:
        return False

    def check(self) -> None:
        pass

    def _generation(self, stored: StoredObject) -> StoredObject | None:
        there, _ = self._objects.get(stored.name, (None, b""))
        return there if there and there.generation == stored.generation else None


def describe(value: Any) -> str:
    """For the log of a run: short, and without what differs from run to run."""
    return f"{type(value).__name__}: {value}" if isinstance(value, Exception) else str(getattr(value, "outcome", value))
