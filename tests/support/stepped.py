"""Tasks for a state machine: product functions that stop before each call to Redis or to the archive.

Only one thread runs at any time, and the machine decides which one runs next, so a run can be repeated exactly.
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

from support.observed import ObservedStore, StoreCall
from torpor.history.calls import Call
from torpor.history.protocol import Lease, RedisUnavailable, TorporError
from torpor.worker.archive.stores import NEVER, Confirm, Safeguards, StoredObject
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, ArchiveUnavailable, ObjectNotFound
from torpor.worker.sleep.leases import LeaseKeeper

T = TypeVar("T")

LISTED_AT_A_TIME = 2
_PAGE_BYTES = 20  # two or three messages


class Fault(StrEnum):
    """The fault of a task's next call."""

    REFUSED = "refused"  # nothing happened
    REPLY_LOST = "reply lost"  # it happened, and the caller gets an error
    SENT_TWICE = "sent twice"  # it happened, the reply was lost, and the client sends it again, maybe much later
    POISON = "poison"  # an error that won't pass, if the call can raise one


class _Killed(BaseException):
    """Unwinds the thread of a task that never continues."""


class Task:
    """A product function in a thread of its own that stops before each call to a store."""

    def __init__(self, name: str, session_id: str | None) -> None:
        self.name = name
        self.session_id = session_id  # None: more than one
        self.waits_for = ""  # the call before which it has stopped
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
        """Make the pending call, and run until the next one or to the end."""
        self._fault = fault
        self.faulted = self.faulted or fault is not None
        self._go.release()
        self._wait()

    def kill(self) -> None:
        """Stop for good before the pending call, as kill -9 does."""
        self._killed = True
        while not self.done:
            self._go.release()
            self._wait()
        self._thread.join()

    def make(self, call: StoreCall, act: Callable[[], T]) -> T:
        """Stop before the call, then make it or fail as the machine decides."""
        unavailable = RedisUnavailable if call.store == "redis" else ArchiveUnavailable
        name = f"{call.name} {call.subject}".strip()
        fault = self._stop_before(name)
        if fault is Fault.POISON:
            raise (ArchiveConflict if call.name.startswith("put") else unavailable)("injected")
        if fault is Fault.REFUSED:
            raise unavailable("injected: refused")
        result = act()
        if fault is Fault.SENT_TWICE and call.store == "redis":
            self._stop_before(f"{name} again")
            result = act()
        if fault is Fault.REPLY_LOST:
            raise unavailable("injected: the reply is lost")
        return result

    def _stop_before(self, call: str) -> Fault | None:
        """Wait for the machine, and return the fault that it has chosen for the call."""
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


class Straight:
    """Makes each call at once."""

    def make(self, _: StoreCall, act: Callable[[], T]) -> T:
        return act()


OnCall = Callable[[Call[Any], object], None]  # called once for each call that was made


@dataclass
class Clock:
    """Lets time pass for sessions by moving their scores to the past: Redis has no other record of time.

    In reality a lease that ends keeps its token, because nobody else has the session before the next claim. So the
    tokens that callers have stand for the moved scores from then on.
    """

    past: Iterator[int] = field(default_factory=lambda: itertools.count(1_000))
    moved: dict[tuple[bytes, float], bytes] = field(default_factory=dict)

    def pass_by(self, session: bytes, score: float) -> bytes:
        """The score, long past, that replaces `score`."""
        fresh = b"%d%s" % (next(self.past), {0.5: b".5", 0.25: b".25"}.get(score % 1, b""))
        for old, token in self.moved.items():
            if old[0] == session and float(token) == score:
                self.moved[old] = fresh
        self.moved[session, score] = fresh
        return fresh

    def token(self, session: bytes, token: bytes) -> bytes:
        """The score for which a token stands now."""
        return self.moved.get((session, float(token)), token)

    def forget(self, session: bytes, token: bytes) -> None:
        """Forget a token: one that is given a second time within a millisecond is a new one."""
        self.moved.pop((session, float(token)), None)


# Scripts whose first arguments after the session are tokens.
_WITH_LEASE = {"snapshot", "renew", "commit", "release", "note_erased"}


class SteppedStore(ObservedStore):
    """The real store, for a task or for the machine itself. A task stops before each call, and sends one at a time."""

    interceptor: Task | Straight

    def __init__(self, client: Any, interceptor: Task | Straight, clock: Clock, on_call: OnCall) -> None:
        super().__init__(client, interceptor, shards=1)
        self.clock = clock
        self.on_call = on_call

    def of(self, interceptor: Task | Straight) -> SteppedStore:
        """The same store for a task."""
        return SteppedStore(self.client, interceptor, self.clock, self.on_call)

    async def perform(self, call: Call[T]) -> T:
        if call.script.name == "read" and isinstance(self.interceptor, Task):
            call = replace(call, args=[*call.args[:6], _PAGE_BYTES, *call.args[7:]])
        sent = itertools.count()

        def act() -> T:
            result = self.send(self._moved(call))
            if next(sent) == 0:
                self.on_call(call, result)
            self._note(call, result)
            return result

        return self.interceptor.make(StoreCall("redis", call.script.name), act)

    def run_many(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        outcomes: list[T | TorporError] = []
        for call in many:
            try:
                outcomes.append(self.run(call))
            except TorporError as error:
                if isinstance(self.interceptor, Straight):
                    raise
                outcomes.append(error)
        return outcomes

    def _note(self, call: Call[T], result: T) -> None:
        """Note the tokens of a restore or a claim."""
        name = call.script.name
        if name == "begin_restore" and isinstance(self.interceptor, Task) and isinstance(call.args[1], bytes):
            self.interceptor.tokens.append(call.args[1])
        if name in ("claim", "claim_one"):
            for lease in result if isinstance(result, list) else [result]:
                if isinstance(lease, Lease):
                    self.clock.forget(lease.session_id.encode(), lease.token)

    def _moved(self, call: Call[T]) -> Call[T]:
        """The same call with the scores for which its tokens stand now."""
        if call.script.name not in _WITH_LEASE:
            return call
        session, *rest = call.args
        assert isinstance(session, bytes)
        tokens = 2 if call.script.name == "renew" else 1
        moved = [self.clock.token(session, token) for token in rest[:tokens] if isinstance(token, bytes)]
        return replace(call, args=[session, *moved, *rest[tokens:]])


class Keeper(LeaseKeeper):
    """The real keeper of leases, without its thread: it renews when the machine says so."""

    def __init__(self, sessions: SteppedStore, duration: timedelta) -> None:
        if isinstance(sessions.interceptor, Task):
            sessions.interceptor.keeper = self
        super().__init__(sessions.of(Straight()), duration)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def renew(self) -> None:
        """Renew, as the thread does after each third of a lease."""
        self._renew()


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
        confirm: Confirm | None = None,
    ) -> StoredObject:
        body.seek(0)
        content = body.read()
        assert len(content) == size
        new = StoredObject(name, size, next(self._generations), dict(metadata), custom_time, held, metageneration=1)
        while True:
            found = self._objects.setdefault(name, (new, content))
            stored, there = found
            if there != content:
                raise ArchiveConflict(f"{name} exists with other content")
            if confirm and stored is not new:
                confirm()
            if self._objects.get(name) is found:  # nobody has changed it while we asked
                break
        if stored is not new:
            self.amend(stored, custom_time=custom_time or (NEVER if stored.custom_time else None), held=held or None)
            stored = self._objects[name][0]
            relied = replace(stored, metadata=dict(metadata), metageneration=stored.metageneration + 1)
            self._objects[name] = relied, content
        return self._objects[name][0]

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        after = ""
        while names := sorted(name for name in self._objects if name.startswith(prefix) and name > after):
            after = names[:LISTED_AT_A_TIME][-1]
            yield from [self._objects[name][0] for name in names[:LISTED_AT_A_TIME]]

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

    def discard(self, stored: StoredObject) -> bool:
        there = self._generation(stored)
        if there and there.metageneration != stored.metageneration:
            return False
        return self.delete(stored) or True

    def amend(
        self,
        stored: StoredObject,
        *,
        custom_time: datetime | None = None,
        held: bool | None = None,
        entries: Mapping[str, str | None] | None = None,
    ) -> None:
        if not (there := self._generation(stored)):
            raise ObjectNotFound(f"{stored.name} does not exist")
        moments = [moment for moment in (there.custom_time, custom_time) if moment]
        held = there.held if held is None else held
        metadata = {name: value for name, value in {**there.metadata, **(entries or {})}.items() if value is not None}
        amended = replace(there, metadata=metadata, custom_time=max(moments, default=None), held=held)
        if amended != there:
            amended = replace(amended, metageneration=there.metageneration + 1)
        self._objects[stored.name] = amended, self._objects[stored.name][1]

    def annotate(self, stored: StoredObject, entries: Mapping[str, str]) -> bool:
        there = self._generation(stored)
        if there is None or there.metageneration != stored.metageneration:
            return False
        annotated = replace(there, metadata={**there.metadata, **entries}, metageneration=there.metageneration + 1)
        self._objects[stored.name] = annotated, self._objects[stored.name][1]
        return True

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
    """A call for the log of a run: short, and without parts that differ from run to run."""
    return f"{type(value).__name__}: {value}" if isinstance(value, Exception) else str(getattr(value, "outcome", value))
