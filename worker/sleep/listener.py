"""Listener: sends for sessions at the moment at which they are due. Beat's sweep stays as the net under it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from torpor.history.protocol import SessionStore, TorporError
from torpor.worker.deployment.services import Services

log = logging.getLogger("torpor.listener")

# How long the other listeners leave a shard to the one that was elected, unless somebody claims sooner.
_ELECTION = timedelta(seconds=5)
# After a first failure; with jitter of half of it, and twice as long after each that follows.
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE = 60.0
# So that `stop` is heard.
_LONGEST_WAIT = 0.5


class Listener:
    """Keeps an agenda, shard -> when to look at it next, and sends off what is due then.

    The agenda follows what Redis announces. All shards are looked at when the subscription begins, which it does
    anew after its connection was lost, and once each sweep interval.
    """

    def __init__(self, connect: Callable[[], Services], send: Callable[[Mapping[int, int]], object]) -> None:
        """`send` gets shards with how many sessions are due, and has them drained. Both may fail."""
        self._connect = connect
        self._send = send
        self._agenda: dict[int, float] = {}  # moments of this machine's monotonic clock
        self._ahead: dict[int, float] = {}  # shard -> its node's clock minus this machine's monotonic one
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="torpor-listener", daemon=True)

    def start(self) -> None:
        """Listen in a thread of its own until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, within about a second; a thread that hangs in Redis or the broker is left behind."""
        self._stopped.set()
        self._thread.join(timeout=3)

    def _run(self) -> None:
        self._pause = _PAUSE_SECONDS
        while not self._stopped.is_set():
            try:
                self._listen()
            except Exception as error:  # it heals by itself, whatever it was; the sweeps go on meanwhile
                known = error if isinstance(error, TorporError) else type(error).__name__
                log.warning("not listening for a moment, sweeps go on: %s", known)
                self._stopped.wait(self._pause * random.uniform(0.5, 1.5))
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _listen(self) -> None:
        services = self._connect()
        sessions = services.sessions
        shards = range(sessions.deployment.keyspace.shards)
        with sessions.announcements() as announcements:
            look_again = 0.0
            while not self._stopped.is_set():
                nearest = min(self._agenda.values(), default=look_again)
                received = announcements.wait(_between(0, min(nearest, look_again) - time.monotonic(), _LONGEST_WAIT))
                if received is None or time.monotonic() >= look_again:
                    self._poll(sessions, shards)
                    look_again = time.monotonic() + services.settings.sweep_interval_seconds
                for shard, moment in (received or {}).items():
                    self._plan(shard, moment - self._ahead.get(shard, moment))
                now = time.monotonic()
                self._poll(sessions, [shard for shard, moment in self._agenda.items() if moment <= now])

    def _plan(self, shard: int, moment: float) -> None:
        self._agenda[shard] = min(moment, self._agenda.get(shard, moment))

    def _poll(self, sessions: SessionStore, shards: Sequence[int]) -> None:
        """Look at shards, send for those with due sessions, and plan the next look at each."""
        if not shards:
            return
        for shard in shards:
            self._agenda.pop(shard, None)
        seen = sessions.poll_shards(shards, _ELECTION)
        for each in seen:
            self._ahead[each.shard] = each.now - time.monotonic()
            if each.next_due is not None:
                self._plan(each.shard, each.next_due - self._ahead[each.shard])
            if each.due and not each.elected:
                self._plan(each.shard, time.monotonic() + _ELECTION.total_seconds())
        due = {each.shard: each.due for each in seen if each.elected}
        if due:
            self._send(due)
        self._pause = _PAUSE_SECONDS


def _between(least: float, value: float, most: float) -> float:
    return max(least, min(value, most))
