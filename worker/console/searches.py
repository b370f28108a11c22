"""Searches: lists that the browser gets while they are found. They end when nobody waits for them any more."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

from torpor.worker.console.admission import Crowded

# So many searches of one person run at a time, and so many of all: each keeps a thread busy, and a rate of its own.
OF_ONE = 4
OF_ALL = 8


@dataclass(eq=False, slots=True)
class Running:
    """A search that runs, and whose it is. Only who has its page knows its id."""

    person: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    stopped: threading.Event = field(default_factory=threading.Event)


class Searches:
    """The searches of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, person: str) -> Running:
        """A new search; raises Crowded if too many run. `end` comes next, whatever happens."""
        with self._lock:
            own = sum(each.person == person for each in self._running.values())
            if own >= OF_ONE or len(self._running) >= OF_ALL:
                raise Crowded
            running = Running(person)
            self._running[running.id] = running
            return running

    def end(self, running: Running) -> None:
        """Forget a search. Repeatable."""
        self._running.pop(running.id, None)

    def stop(self, search: str) -> None:
        """Have a search end soon, if it runs in this process."""
        if running := self._running.get(search):
            running.stopped.set()


SEARCHES = Searches()
