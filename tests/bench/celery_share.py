"""Measures the CPU that Celery's messages and tasks cost a worker, without the work itself."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.chats import ours, plain, session_ids
from bench.harness import Bench, Reach, Row, Sides
from bench.share_probe import NOTES
from support.waiting import wait_until
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

# A sweep's CPU counts as Celery's, because it only counts sessions and sends drains.
_WORK = {"torpor.drain", "torpor.archive_session"}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Note:
    """One task that has ended."""

    name: str
    seconds: float
    returned: str


class Worker:
    """A real worker with two processes, no listener and no beat, whose tasks note the CPU of their bodies."""

    def __init__(self, services: Services, folder: Path) -> None:
        self._services = services
        self._notes = folder / "notes"
        self._notes.touch()
        self._app = make_app(lambda: services.settings, set_as_current=False)
        path = os.pathsep.join(filter(None, sys.path))
        env = environment(services.settings) | {NOTES: str(self._notes), "PYTHONPATH": path}
        command = [sys.executable, "-m", "celery", "-A", "bench.share_probe", "worker", "--concurrency", "2"]
        with (folder / "worker.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--loglevel", "INFO", "--without-gossip", "--without-mingle"],
                env=env,
                cwd=folder,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def share_of_sweep(self, sessions: Sequence[str]) -> float:
        """Milliseconds of CPU per session without the bodies of the drains, if one sweep sends the drains."""

        def is_done(notes: Sequence[Note]) -> bool:
            sent = [int(note.returned) for note in notes if note.name == "torpor.sweep"]
            return sum(sent) > 0 and sum(note.name == "torpor.drain" for note in notes) == sum(sent)

        return self._share(sessions, lambda: self._send("torpor.sweep"), is_done)

    def share_of_tasks(self, sessions: Sequence[str]) -> float:
        """The same, if each session has a task of its own."""

        def send() -> None:
            for session_id in sessions:
                self._send("torpor.archive_session", session_id)

        return self._share(sessions, send, lambda notes: len(notes) == len(sessions))

    def _share(
        self, sessions: Sequence[str], send: Callable[[], None], is_done: Callable[[Sequence[Note]], bool]
    ) -> float:
        self._notes.write_text("")
        before = self._cpu()
        send()
        wait_until(lambda: is_done(self._ended()), 120, "the tasks have ended")
        spent = self._cpu() - before
        assert not any(self._services.sessions.infos(sessions)), "all sessions are archived"
        work = sum(note.seconds for note in self._ended() if note.name in _WORK)
        return (spent - work) / len(sessions) * 1_000

    def _send(self, task: str, *arguments: str) -> None:
        self._app.send_task(task, arguments, queue=self._services.settings.namespace)

    def _ended(self) -> list[Note]:
        complete = [line.split("\t") for line in self._notes.read_text().splitlines(keepends=True) if line[-1] == "\n"]
        return [Note(name, float(seconds), returned) for name, seconds, returned in complete]

    def _cpu(self) -> float:
        """Seconds that the worker and the processes of its pool have taken."""
        parent = self.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return sum(_cpu(pid) for pid in (str(parent), *children))


def _cpu(pid: str) -> float:
    """User and system time; https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _due(services: Services, count: int) -> list[str]:
    elements = ours(plain(20))
    ids = session_ids(count)
    for session_id in ids:
        services.sessions.append(session_id, elements)
        services.sessions.close(session_id)
    return ids


@contextmanager
def shares(bench: Bench) -> Iterator[Sides]:
    """The archive is a folder, and its CPU is not counted."""
    many, few = bench.size(2_000, 1_000), bench.size(200, 100)
    with bench.client(), tempfile.TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        services = bench.services((folder / "archive").as_uri(), listen=False)
        worker = Worker(services, folder)
        try:
            yield Sides(
                ours=lambda: worker.share_of_sweep(_due(services, many)),
                peer=lambda: worker.share_of_tasks(_due(services, few)),
            )
        finally:
            worker.stop()


ROWS = [
    Row(
        "celery",
        "Celery's share: worker CPU per archived session",
        "ms",
        shares,
        [Reach(0.05)],
        "one sweep and its drains of 1,000 sessions, in a real worker of two processes: the CPU of all of them, less "
        "that of the bodies of the drains",
        "one task a session, likewise",
        most_rounds=5,
        profiled=False,
    ),
]
