"""Any interleaving loses nothing: a state machine over sessions, workers, restorers, a purger, and who compresses.

These are the product's own functions in threads that stop before each call to Redis and
to the archive. Hypothesis decides who goes on, what users do meanwhile, whose lease ends, which call fails or loses
its reply, and who is killed. After each step the transcript that a user would get must be what was acknowledged.
In the end all are killed, everything is drained, and every session is restored.

The short run is the same each time. A long one, with other examples each time:

    MACHINE_SECONDS=600 .venv/bin/pytest tests/faults/test_machine.py -s
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from support.compressing import also_if_longer
from support.keyspace import raw
from support.observed import ObservedArchive
from support.sessions import purge_session
from support.stepped import (
    LISTED_AT_A_TIME,
    Clock,
    Fault,
    Keeper,
    MemoryArchive,
    SteppedStore,
    Straight,
    Task,
    describe,
)
from support.transcripts import read_transcript
from torpor.history import compression
from torpor.history.calls import Call
from torpor.history.protocol import (
    Compression,
    Expiry,
    PurgeOutcome,
    Purging,
    SessionIncomplete,
    SessionNotFound,
    SessionPurged,
    SessionStore,
    Status,
)
from torpor.worker.archive import contents
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings
from torpor.worker.errors import AttemptsExhausted
from torpor.worker.sleep.attempt import archive_claimed, archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import AttemptResult, Outcome
from torpor.worker.wake.restore import Restored, RestoreOutcome, restore_session

SECONDS = float(os.environ.get("MACHINE_SECONDS", "0"))

OWNERS = {"a": "ann", "b": "ann", "c": None}
# One session sees most of what happens: races need company.
SESSIONS = st.sampled_from(["a", "a", "a", "a", "b", "c"])
# A maximum age of a millisecond is always over: then activity leaves the due moment as it is.
EXPIRIES = st.sampled_from([Expiry(), Expiry(), Expiry(timedelta(days=2)), Expiry(max_age=timedelta(milliseconds=1))])
# Races are won and lost just before these calls; a task stops at once, before one of them, or at its end.
UNTIL = st.sampled_from(
    ["", "", "put", "commit", "note_erased", "delete", "finish_restore", "stage", "open", "repack", "the end"]
)
LOOKING = {"info", "read", "find_hold"}  # change nothing
CHANGED = Purging(PurgeOutcome.CHANGED)
PRESENT = 1e12  # scores below are past
REMEMBERED = 63  # a request that so many others have followed is still known when it is sent again
TASKS = {"worker": 3, "restorer": 2, "purger": 1, "writer": 1, "packer": 2}
SETTINGS = Settings(
    archive_url="file:///nowhere", lease_seconds=86_400, retry_delay_seconds=3_600, max_attempts=3, concurrency=1
)


FAILURES = {Outcome.POSTPONED, Outcome.FAILED, Outcome.QUARANTINED}


class Machine(RuleBasedStateMachine):
    """The model is `said`: the acknowledged messages of each session since its last clear or purge."""

    client: ClassVar[redis.Redis]
    archives: ClassVar[Iterator[ArchiveStore]]
    examples: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    failed_first: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        Machine.examples += 1
        self.client.flushall()
        self.said: dict[str, list[bytes]] = {session: [] for session in OWNERS}
        self.numbered = 0
        self.log: list[str] = []
        self.broken = False
        self.touched: set[str] = set()
        self.tasks: list[Task] = []
        self.ended: set[bytes] = set()
        self.sessions = SteppedStore(self.client, Straight(), Clock(), self.note_call)
        self.services = Services(SETTINGS, self.sessions, next(self.archives))
        self.keys = self.sessions.deployment.keyspace.shard(0)

    # What users do

    @rule(session=SESSIONS, count=st.integers(1, 3), expiry=EXPIRIES)
    def append(self, session: str, count: int, expiry: Expiry) -> None:
        self.turn(self.sessions, session, count, expiry)
        self.check_active(session)

    @rule(session=SESSIONS)
    def clear(self, session: str) -> None:
        with suppress(SessionPurged):
            self.sessions.clear(session)

    @rule(session=SESSIONS)
    def pop(self, session: str) -> None:
        take_back(self.sessions, session)

    @precondition(lambda self: self.has_free("writer"))
    @rule(session=SESSIONS, what=st.sampled_from(["clear", "pop", 1, 2, 3]))
    def start_to_write(self, session: str, what: str | int) -> None:
        """A turn, a clear or a pop that can fail, or be sent again much later."""

        def write(services: Services) -> int | None:
            match what:
                case "clear":
                    return services.sessions.clear(session)
                case "pop":
                    return take_back(services.sessions, session)
            return self.turn(services.sessions, session, int(what), Expiry())

        self.begin("writer", session, "", write)

    @rule(session=SESSIONS, what=st.sampled_from(["read", "close", "requeue", "update"]), expiry=EXPIRIES)
    def use(self, session: str, what: str, expiry: Expiry) -> None:
        self.log.append(f"{what} {session}")
        match what:
            case "read":
                live = self.sessions.messages(session)
                said = self.said[session]
                self.expect(live == said[len(said) - len(live) :], f"{session} reads {live}, said {said}")
                self.check_active(session)
            case "close":
                self.sessions.close(session)
            case "requeue":
                self.sessions.requeue(session)
            case _:
                with suppress(SessionNotFound):
                    self.sessions.update(session, idle=expiry.idle, max_age=expiry.max_age)

    @rule(session=SESSIONS)
    def time_passes(self, session: str) -> None:
        """Idle timeouts, leases and delays of this session end."""
        key = session.encode()
        score = self.client.zscore(self.keys.due, session)
        if score is None or score < PRESENT:
            return
        self.log.append(f"time passes for {session}")
        raw(self.client, "ZADD", self.keys.due, self.sessions.clock.pass_by(key, score), session)
        for moment in ("again", "until"):
            set_to = raw(self.client, "HGET", self.keys.metadata(key), moment)
            if set_to and float(set_to) <= score + 1:
                raw(self.client, "HSET", self.keys.metadata(key), moment, 1)

    # What workers do

    @precondition(lambda self: self.has_free("worker"))
    @rule(session=SESSIONS, until=UNTIL)
    def start_to_archive(self, session: str, until: str) -> None:
        self.begin("worker", session, until, lambda services: archive_session(services, session))

    @precondition(lambda self: self.has_free("worker"))
    @rule(limit=st.integers(1, 2), until=UNTIL)
    def start_to_drain(self, limit: int, until: str) -> None:
        """Without a lease if Redis is at its memory limit."""
        self.begin("worker", None, until, lambda services: drain_once(services, limit))

    @precondition(lambda self: self.has_free("restorer"))
    @rule(session=SESSIONS, until=UNTIL)
    def start_to_restore(self, session: str, until: str) -> None:
        self.begin("restorer", session, until, lambda services: restore_session(services, session))

    @precondition(lambda self: self.has_free("purger"))
    @rule(session=SESSIONS, until=UNTIL)
    def start_to_purge(self, session: str, until: str) -> None:
        self.begin("purger", session, until, lambda services: purge_session(services, session))

    @precondition(lambda self: self.has_free("packer"))
    @rule(session=SESSIONS, until=UNTIL, how=st.sampled_from(Compression))
    def start_to_repack(self, session: str, until: str, how: Compression) -> None:
        self.begin("packer", session, until, lambda services: services.sessions.repack(session, how))

    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0, 5), until=UNTIL)
    def go_on(self, which: int, until: str) -> None:
        task = self.pick(which)
        self.step(task)
        self.run(task, until)

    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0, 5), mishap=st.sampled_from([*Fault, "killed", "renewed"]))
    def befall(self, which: int, mishap: str) -> None:
        task = self.pick(which)
        if isinstance(mishap, Fault):
            self.step(task, mishap)
        elif mishap == "killed":
            self.log.append(f"{task.name} is killed before {task.waits_for}")
            task.kill()
            self.tasks.remove(task)
        elif task.keeper:
            self.log.append(f"{task.name} renews its leases")
            task.keeper.renew()

    # What must be true

    @invariant()
    def check(self) -> None:
        Machine.steps += 1
        for session in sorted(self.touched):
            transcript = self.transcript(session)
            self.expect(transcript == self.said[session], f"{session} is {transcript}, said {self.said[session]}")
        self.touched.clear()
        indexed = {
            *raw(self.client, "ZRANGE", self.keys.due, 0, -1),
            *raw(self.client, "ZRANGE", self.keys.quarantine, 0, -1),
        }
        for session in OWNERS:
            key = session.encode()
            live = self.client.exists(self.keys.messages(key), self.keys.metadata(key))
            self.expect(not live or key in indexed, f"{session} is in Redis but in no index")
        for staging in self.client.scan_iter(self.keys.staging(b"*", b"*"), count=1_000):
            token = staging.split(b":")[3]
            self.expect(token not in self.ended, f"{staging!r} was left behind")
            self.expect(bool(self.client.pttl(staging) > 0), f"{staging!r} never expires")

        for task in [*self.tasks]:
            if task.overtaken > REMEMBERED:
                self.log.append(f"{task.name} gives up")
                task.kill()
                self.tasks.remove(task)

    def check_active(self, session: str) -> None:
        """Activity takes a session out of a worker's hands, unless it is empty or is to be erased."""
        info = self.sessions.info(session)
        if info and info.message_count and info.floor is None and info.status is not Status.QUARANTINED:
            score = self.client.zscore(self.keys.due, session)
            self.expect(bool(score and score > PRESENT and score % 1 == 0), f"{session} is used but due at {score}")

    def teardown(self) -> None:
        for task in self.tasks:
            task.kill()
        if not self.broken:
            self.tasks.clear()
            self.check()
            self.settle()
            self.check_restored()
        self.client.flushall()

    def settle(self) -> None:
        """All leases end, and workers drain until nothing is due."""
        for _ in range(20):
            for session in OWNERS:
                self.sessions.requeue(session)
                self.time_passes(session)
            if not self.client.zcard(self.keys.due):
                break
            self.log.append(f"drain: {dict(drain(self.services, [0]))}")
            self.check()
        left = raw(self.client, "KEYS", self.keys.tag + b"*")
        ours = [
            self.keys.messages(b""),
            self.keys.metadata(b""),
            self.keys.owner(b""),
            self.keys.due,
            self.keys.quarantine,
        ]
        self.expect(not any(key.startswith(tuple(ours)) for key in left), f"left in Redis: {left}")

    def check_restored(self) -> None:
        for session, said in self.said.items():
            held = contents.look(self.services.archive, session)
            self.expect(not held.erasable, f"the archive has, from before a clear of {session}: {held.erasable}")
            self.log.append(f"restore {session}")
            try:
                restore_session(self.services, session)
            except SessionNotFound:
                self.expect(not said, f"{session} is not found")
            live = self.sessions.messages(session)
            self.expect(live == said, f"{session} is restored as {live}, said {said}")
            info = self.sessions.info(session)
            self.expect(not info or info.owner == OWNERS[session], f"{session} has lost its owner")

    # How it is done

    def turn(self, sessions: SessionStore, session: str, count: int, expiry: Expiry) -> int | None:
        first, self.numbered = self.numbered, self.numbered + count
        messages = [b'{"n":%d}' % number for number in range(first, self.numbered)]
        return sessions.append(session, messages, expiry=expiry, owner=OWNERS[session], allow_reuse=True)

    def note_call(self, call: Call[object], result: object) -> None:
        session = call.args[0] if call.args else b""
        if isinstance(session, bytes) and (name := session.decode()) in OWNERS and call.script.name not in LOOKING:
            self.touched.add(name)
            if call.script.name in ("append", "clear", "pop", "purge"):
                for task in self.tasks:
                    task.overtaken += task.session_id == name and task.waits_for.endswith(" again")
            if call.script.name == "append":
                said = compression.from_stored([each for each in call.args[10:] if isinstance(each, bytes)])
                self.log.append(f"append {b' '.join(said).decode()} to {name}")
                self.said[name] += said
            elif call.script.name == "pop":
                if result and self.said[name]:
                    self.log.append(f"pop {self.said[name].pop().decode()} of {name}")
            elif call.script.name == "clear" or (call.script.name == "purge" and result != CHANGED):
                self.log.append(f"{call.script.name} {name}")
                self.said[name] = []

    def transcript(self, session: str) -> list[bytes]:
        try:
            return read_transcript(self.services, session)
        except SessionNotFound:
            return []
        except Exception as error:
            self.expect(False, f"{session} can't be read: {describe(error)}")
            raise

    def has_free(self, kind: str) -> bool:
        return sum(task.name.startswith(kind) for task in self.tasks) < TASKS[kind]

    def begin(self, kind: str, session: str | None, until: str, body: Callable[[Services], object]) -> None:
        taken = {task.name for task in self.tasks}
        name = next(f"{kind} {number}" for number in range(TASKS[kind]) if f"{kind} {number}" not in taken)
        task = Task(name, session)
        archive = ObservedArchive(self.services.archive, task, LISTED_AT_A_TIME)
        services = replace(self.services, sessions=self.sessions.of(task), archive=archive)
        self.log.append(f"{name} begins with {session or 'what is due'}")
        task.start(lambda: body(services))
        self.tasks.append(task)
        self.run(task, until)

    def run(self, task: Task, until: str) -> None:
        while not task.done and not task.waits_for.startswith(until):
            self.check()
            self.step(task)

    def pick(self, which: int) -> Task:
        return self.tasks[which % len(self.tasks)]

    def step(self, task: Task, fault: Fault | None = None) -> None:
        self.log.append(f"{task.name}: {task.waits_for}{f' - {fault}' if fault else ''}")
        if task.waits_for.startswith(("put", "delete")):
            self.touched |= {task.session_id} if task.session_id else set(OWNERS)
        task.step(fault)
        if task.done:
            self.tasks.remove(task)
            self.ended |= set(task.tokens) if not task.faulted else set()
            self.log.append(f"{task.name} ends: {describe(task.error or task.result)}")
            self.check_ended(task)

    def check_ended(self, task: Task) -> None:
        results = task.result if isinstance(task.result, list) else [task.result]
        for result in results:
            if isinstance(result, Restored) and result.outcome is not RestoreOutcome.SUPERSEDED:
                live = self.sessions.messages(result.session_id, touch=False)
                self.expect(live == self.said[result.session_id], f"{result.session_id} woke up as {live}")
            if isinstance(result, AttemptResult) and result.outcome in FAILURES and not task.faulted:
                known = result.error is None or isinstance(result.error, AttemptsExhausted)
                self.expect(known, f"{task.name} failed: {result.error!r}")
        if task.error and not task.faulted:
            nothing = isinstance(task.error, SessionNotFound) and task.session_id and not self.said[task.session_id]
            self.expect(bool(nothing), f"{task.name} failed: {task.error!r}")

    def expect(self, truth: bool, otherwise: str) -> None:  # noqa: FBT001
        if not truth:
            self.broken = True
            Machine.failed_first = Machine.failed_first or Machine.examples
            pytest.fail("\n".join([otherwise, *self.log]), pytrace=False)


def take_back(sessions: SessionStore, session: str) -> bool | None:
    """Pop the last message, if Redis has all of the session."""
    with suppress(SessionIncomplete, SessionPurged):
        for page in sessions.pages(session, -1):
            return sessions.pop(session, page)
    return None


def drain_once(services: Services, limit: int) -> list[AttemptResult]:
    """One batch of torpor.worker.sleep.drain, in one thread."""
    assert isinstance(services.sessions, SteppedStore)
    keeper = Keeper(services.sessions, services.settings.lease)
    leases = services.sessions.claim([0], limit, services.settings.lease)
    keeper.keep(leases)
    attempts = services.sessions.begin_attempts(leases)
    return [
        archive_claimed(services, keeper, lease, attempt, rewound_before=0)
        for lease, attempt in zip(leases, attempts, strict=True)
    ]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A few messages are staged in several pages; leases are renewed when the machine says so."""
    monkeypatch.setattr("torpor.worker.archive.lines._READ_BYTES", 150)
    monkeypatch.setattr("torpor.worker.sleep.attempt.LeaseKeeper", Keeper)
    monkeypatch.setattr(compression, "_stored", also_if_longer(compression._stored))
    caplog.set_level("CRITICAL", "torpor")  # failures are injected by the thousand


def explore(client: redis.Redis, archives: Iterator[ArchiveStore], examples: int) -> None:
    """Run examples for MACHINE_SECONDS, or the same `examples` as each time."""
    Machine.client, Machine.archives = client, archives
    Machine.examples = Machine.steps = Machine.failed_first = 0
    every_run = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        derandomize=not SECONDS,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    began = time.monotonic()
    try:
        run_state_machine_as_test(Machine, settings=every_run)
        while time.monotonic() < began + SECONDS:
            run_state_machine_as_test(Machine, settings=every_run)
    finally:
        seconds = time.monotonic() - began
        failed = f", the first failure in example {Machine.failed_first}" if Machine.failed_first else ""
        sys.stdout.write(f"{Machine.examples} examples, {Machine.steps} steps in {seconds:.0f} s{failed}\n")


@pytest.mark.timeout(SECONDS + 300)
def test_no_interleaving_loses_doubles_or_revives_a_message() -> None:
    archives = (MemoryArchive() for _ in itertools.count())
    explore(fakeredis.FakeRedis(server=fakeredis.FakeServer()), archives, 60)


@pytest.mark.timeout(SECONDS + 300)
def test_no_interleaving_loses_doubles_or_revives_a_message_on_a_real_redis(client: redis.Redis, scratch: Path) -> None:
    archives = (open_archive((scratch / str(number)).as_uri()) for number in itertools.count())
    explore(client, archives, 100)
