"""One round: write under faults, let clean workers finish, and compare."""

# ruff: noqa: T201 - a program prints its progress

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ledger.deployment import COMPRESSIONS, Failed, Program, run_workers, started
from ledger.faults import Faults, Tally
from ledger.record import Record, Verdict, judge, read_ledger
from ledger.threads import is_thread, wrong_values
from ledger.writers import Writers, texts_of
from support.identity import bind
from support.waiting import wait_until
from torpor.history.protocol import Compression, SessionNotFound, TorporError
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services, connect
from torpor.worker.sleep.opening import record_defaults
from torpor.worker.wake.restore import restore_session


@dataclass(frozen=True)
class Round:
    """The parameters of a round."""

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
        """Write under faults, then finish and compare; returns True if everything is right."""
        with ExitStack() as stack:
            writers = stack.enter_context(Writers(self.logs))  # before this process has threads
            parts = stack.enter_context(started(self.folder, self.store, self.seed, self.options))
            programs_of = partial(run_workers, self.folder, compressions=parts.deployment.compressions)
            services = connect(parts.deployment.direct)
            bind(services)
            record_defaults(services)  # as a worker that has started before the writers
            armed = {"LEDGER_KILL_CHANCE": str(self.options.chance), "LEDGER_KILL_LOG": str(self.folder / "deaths")}
            faulty = parts.deployment.emulator | armed
            with programs_of(parts.deployment.faulty, faulty, "support.armed_worker") as programs:
                writers.start(parts.deployment)
                wait_until(lambda: _archived(services), 90, "the workers have begun")
                faults = Faults(self.seed, self.tally, parts, programs)
                self._break(faults, writers, programs, services)
                self._check_forms(services)
                faults.end()
                writers.finish()
            self.tally.kills += self.deaths
            self.tally.acknowledged += writers.acknowledged
            kinds = sorted({**faults.kinds, "killed at a failpoint": self.deaths}.items())
            print(f"{self}: {', '.join(f'{count} {kind}' for kind, count in kinds)}", flush=True)
            with programs_of(parts.deployment.direct, parts.emulator, "torpor.worker.app") as programs:
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

    def _check_forms(self, services: Services) -> None:
        """The messages in Redis must have the forms that the workers' settings ask for."""

        def to_change(wanted: Compression) -> int:
            each = (services.sessions.repack(one, wanted, dry_run=True) for one in services.sessions.sessions())
            return sum(session.messages for session in each)

        found = {Compression.ZSTD: to_change(Compression.NONE), Compression.NONE: to_change(Compression.ZSTD)}
        print(f"{self}: in Redis {found[Compression.ZSTD]} compressed messages, {found[Compression.NONE]} plain ones")
        if {form for form, count in found.items() if count} != set(COMPRESSIONS[self.options.compression]):
            raise Failed("the messages have other forms than the workers' settings ask for")

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
        # A cleared session waits for five minutes if an upload of it was tried again: the first try may still arrive.
        wait_until(asleep, 420, "every session is asleep")
    except BaseException as error:
        for session in list(services.sessions.sessions())[:20]:
            print(services.sessions.info(session))
        raise Failed(str(error)) from error


def _compare(services: Services, logs: Sequence[Path], tally: Tally) -> bool:
    records, odd = read_ledger(logs)
    quarantined = list(services.sessions.sessions(quarantined=True))
    for session in quarantined:
        print(f"IN QUARANTINE: {services.sessions.info(session)}")

    def transcript(session: str) -> list[str]:
        with suppress(SessionNotFound):
            restore_session(services, session)
        elements = services.sessions.messages(session, touch=False)
        if is_thread(session):
            odd.extend(f"{session} has {each}" for each in wrong_values(session, elements))
        return texts_of(elements)

    well = not quarantined
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
    for line in odd:
        print(f"ODD: {line}")
    threads = sum(map(is_thread, records))
    print(
        f"compared {len(records)} sessions, {threads} of them threads, {messages} acknowledged messages and records",
        flush=True,
    )
    return well and not odd


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
