"""Whether a process moves (liveness), and whether what it needs has answered lately (readiness)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from torpor.history.protocol import TorporError
from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.deployment import main_thread
from torpor.worker.deployment.periodic import PeriodicThread
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ObjectNotFound

log = logging.getLogger("torpor.health")

# How long after its last answer something counts as lost, if it does not say so itself.
_LATELY_SECONDS = 8.0
_PAUSE_SECONDS = 2.0
# The main thread beats every second, but one try to reach the broker may take long.
_STUCK_SECONDS = 30.0


def stuck() -> Iterator[str]:
    """Why the process should be restarted: its main thread does not move."""
    if (silent := main_thread.silent_seconds()) > _STUCK_SECONDS:
        yield f"the main thread has been stuck for {silent:.0f} seconds"


class Check:
    """Asks something again and again, in a thread of its own, whether it answers."""

    def __init__(self, name: str, ask: Callable[[], object]) -> None:
        self._name = name
        self._ask = ask
        self._answered: float | None = None
        self._error = "it has not answered yet"
        self._asking = PeriodicThread(
            f"torpor-check-{name}", self._ask_once, pause=self._pause, log=log, failure=f"{name} does not answer"
        )
        self._asked = False

    def start(self) -> None:
        """Ask at once, and then every two seconds."""
        self._asking.start()

    def stop(self) -> None:
        """Ask no more; a question that hangs is left behind."""
        self._asking.stop(timeout=0)

    def fault(self) -> str | None:
        """Why it is not ready; None if it has answered lately."""
        if self._answered is None:
            return f"{self._name}: {self._error}"
        if time.monotonic() - self._answered > _LATELY_SECONDS:
            return f"{self._name}: it has not answered for {time.monotonic() - self._answered:.0f} seconds"
        return None

    def _pause(self) -> float:
        pause = _PAUSE_SECONDS if self._asked else 0.0
        self._asked = True
        return pause

    def _ask_once(self) -> None:
        try:
            self._ask()
        except Exception as error:
            self._answered = None
            self._error = str(error) if isinstance(error, TorporError) else type(error).__name__
        else:
            self._answered = time.monotonic()


class Readiness:
    """The checks of all that a process needs."""

    def __init__(self, questions: Mapping[str, Callable[[], object]]) -> None:
        """`questions` by name; a question that is answered raises nothing."""
        self._checks = [Check(name, ask) for name, ask in questions.items()]

    def start(self) -> None:
        """Begin to ask."""
        for check in self._checks:
            check.start()

    def stop(self) -> None:
        """Ask no more."""
        for check in self._checks:
            check.stop()

    def faults(self) -> Iterator[str]:
        """What has not answered lately, and why."""
        for check in self._checks:
            if fault := check.fault():
                yield fault


class RedisQuestion:
    """Has Redis the deployment's shard count and all scripts? Loads scripts that a restart has lost."""

    def __init__(self, services: Callable[[], Services]) -> None:
        self._services = services

    def __call__(self) -> None:
        """Raises RedisUnavailable and ShardCountMismatch."""
        sessions = self._services().sessions
        sessions.identity()
        if not sessions.has_scripts():
            sessions.load_scripts()


class ArchiveQuestion:
    """Can the archive be read? A small object of it is read, because a listing costs more in Cloud Storage."""

    def __init__(self, archive: ArchiveStore) -> None:
        self._archive = archive
        self._known: StoredObject | None = None

    def __call__(self) -> None:
        """Raises ArchiveUnavailable."""
        if self._known:
            with suppress(ObjectNotFound), self._archive.open(self._known) as body:
                body.read()
                return
        self._known = next(iter(self._archive.list(names.IDENTITIES)), None)
