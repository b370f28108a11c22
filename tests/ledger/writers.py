"""Processes of an application that add, read, close and clear, and note each message and each record of a thread."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Protocol, Self

import redis
from kombu.exceptions import KombuError, OperationalError
from langchain_core.messages import HumanMessage

from ledger.deployment import Deployment, Failed
from ledger.record import Record, Turn, judge
from ledger.threads import GrowingThread, is_thread, text_of
from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory, MemorystoreSaver, SessionArchive
from torpor.history.elements import is_record
from torpor.history.protocol import SessionNotFound, StagingLost, TransientError
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import connect
from torpor.worker.wake.restore import restore_session


class Stop(Protocol):
    """The signal by which writers know that a round is over."""

    def is_set(self) -> bool: ...


class Writer:
    """One process of an application: its own sessions, which it may clear, and sessions that all writers share.

    A third of them are LangGraph threads; the others are chats.
    """

    def __init__(self, number: int, deployment: Deployment, log: IO[str], acknowledged: Any) -> None:
        self._number = number
        self._log = log
        self._acknowledged = acknowledged
        self._dice = random.Random(f"{deployment.seed}:{number}")
        self._settings = deployment.faulty
        self._compressions = deployment.compressions
        self._start()
        self._app = make_app(lambda: deployment.faulty)
        self._archive = SessionArchive(self._services.archive.url)
        kinds = ("thread-", "", "")
        own, shared = deployment.sessions // 2 // deployment.writers, deployment.sessions // 2
        self._own = [f"{kinds[index % 3]}own-{number}-{index}" for index in range(own)]
        self._shared = [f"{kinds[index % 3]}shared-{index}" for index in range(shared)]
        self._threads: dict[str, GrowingThread] = {}
        self._next: Counter[str] = Counter()
        self._eras: Counter[str] = Counter()
        self._records: dict[str, Record] = defaultdict(Record)

    def write(self, stop: Stop) -> None:
        weights = {
            self._add: 60,
            self._read: 8,
            self._close: 6,
            self._clear: 2,
            self._restore: 8,
            self._send_restore: 6,
            self._look: 6,
            self._repack: 4,
            self._start_again: 2,
        }
        while not stop.is_set():
            session = self._dice.choice(self._own if self._dice.random() < 0.5 else self._shared)
            action = self._dice.choices(list(weights), list(weights.values()))[0]
            with suppress(TransientError, StagingLost):
                try:
                    action(session)
                except (TransientError, StagingLost):
                    raise
                except Exception as error:
                    self._note("odd", session, error=repr(error), doing=action.__name__)
            time.sleep(self._dice.uniform(0, 0.05))

    def _start(self) -> None:
        """Connect, as a process that starts; it reads the deployment's configuration."""
        self._services = connect(self._settings)
        port = self._settings.redis_url.get_secret_value().rpartition(":")[2].partition("/")[0]
        self._client = redis.Redis(port=int(port))  # as an application makes it, with redis-py's own retries

    def _note(self, what: str, session: str, **more: Any) -> None:
        entry = {"what": what, "session": session, "writer": self._number, "at": time.monotonic(), **more}
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()

    def _history(self, session: str) -> MemorystoreChatMessageHistory:
        return MemorystoreChatMessageHistory(self._client, session, _ttl(session), owner=_owner(session))

    def _thread(self, session: str) -> GrowingThread:
        if session not in self._threads:
            saver = MemorystoreSaver(self._client, ttl=_ttl(session), archive=self._archive)
            self._threads[session] = GrowingThread(saver, session, _owner(session))
        return self._threads[session]

    def _add(self, session: str) -> None:
        if not is_thread(session):
            self._write(session, self._dice.randint(1, 3), self._add_messages(session))
            return
        thread = self._thread(session)
        if self._dice.random() < 0.1:
            thread.forget()
        thread.catch_up()
        self._write(session, 1, thread.put)
        self._write(session, 1, thread.put_writes)

    def _add_messages(self, session: str) -> Callable[[Sequence[str]], None]:
        return lambda texts: self._history(session).add_messages([HumanMessage(text) for text in texts])

    def _write(self, session: str, count: int, write: Callable[[Sequence[str]], None]) -> None:
        """Write something that consists of so many messages, or one record, and note whether it was acknowledged."""
        first = self._next[session]
        stop = first + count
        self._next[session] = stop
        begin, era = time.monotonic(), self._eras[session]
        self._note("try", session, first=first, stop=stop, era=era)
        turns, end = self._records[session].turns, None
        try:
            write([f"{self._number}:{number}" for number in range(first, stop)])
            end = time.monotonic()
        finally:
            turns.append(Turn(self._number, session, first, stop, begin, end, era))
        self._note("ack", session)
        with self._acknowledged.get_lock():
            self._acknowledged.value += stop - first

    def _read(self, session: str) -> None:
        if is_thread(session):
            thread = self._thread(session)
            thread.forget()
            thread.catch_up()
        else:
            _ = self._history(session).messages

    def _close(self, session: str) -> None:
        self._services.sessions.close(session)

    def _clear(self, session: str) -> None:
        if session not in self._own:
            return
        self._note("clear", session)
        while True:
            with suppress(TransientError):
                if is_thread(session):
                    self._thread(session).delete()
                else:
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
        """A session of the writer's own must be complete at every moment, asleep or not."""
        if session not in self._own:
            return
        try:
            elements = read_transcript(self._services, session)
        except SessionNotFound as error:
            if "keeps changing" not in str(error):
                self._must_be_empty(session)
            return
        verdict = judge(self._records[session], texts_of(elements))
        if not verdict:
            self._note("odd", session, doing="_look", error=repr(verdict), texts=texts_of(elements))

    def _repack(self, session: str) -> None:
        self._services.sessions.repack(session, self._dice.choice(self._compressions))

    def _start_again(self, _: str) -> None:
        self._start()
        self._threads.clear()

    def _must_be_empty(self, session: str) -> None:
        record = self._records[session]
        if any(turn.end is not None and turn.era == record.era for turn in record.turns):
            raise AssertionError(f"{session} is not found, though messages of it were acknowledged")


def texts_of(elements: Sequence[bytes]) -> list[str]:
    return [
        text_of(element) if is_record(element) else str(json.loads(element)["data"]["content"]) for element in elements
    ]


def _ttl(session: str) -> int:
    return 1 + sum(session.encode()) % 3


def _owner(session: str) -> str | None:
    return session if session.endswith("7") else None


def _run_writer(number: int, inbox: Connection, log: Path, stop: Stop, acknowledged: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    deployment: Deployment = inbox.recv()
    os.environ.update(deployment.emulator)
    with log.open("w") as lines:
        Writer(number, deployment, lines, acknowledged).write(stop)


class Writers:
    """The processes of all writers. They are forked at once and wait for the deployment."""

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
        """How many messages were acknowledged up to now."""
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
