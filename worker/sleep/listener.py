"""Listener: has sessions drained at the moment at which they become due. Beat's sweep finds what it misses."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from torpor.history.protocol import SessionStore
from torpor.worker.deployment.periodic import PeriodicThread
from torpor.worker.deployment.services import Services

log = logging.getLogger("torpor.listener")

# The elected listener alone sends drains for a shard, for so long or until somebody claims there.
_ELECTION = timedelta(seconds=5)
# The pause after a first failure; each further one doubles it. Half of it more or less keeps workers apart.
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE = 60.0
# A wait for announcements is this long at most, so that `stop` is noticed.
_LONGEST_WAIT = 0.5


class Listener:
    """Keeps an agenda, shard -> when to poll it next, and sends drains for shards with due sessions.

    Announcements of Redis move the agenda. All shards are polled when a subscription begins, also one that replaces a
    lost connection, and once each sweep interval.
    """

    def __init__(self, connect: Callable[[], Services], send: Callable[[Mapping[int, int]], object]) -> None:
        """`send` gets shards with their numbers of due sessions, and has them drained. Both may fail."""
        self._connect = connect
        self._send = send
        self._agenda: dict[int, float] = {}  # moments of this machine's monotonic clock
        self._ahead: dict[int, float] = {}  # shard -> its node's clock minus this machine's monotonic one
        self._next_pause = 0.0
        self._subscriptions = PeriodicThread(
            "torpor-listener",
            self._listen,
            pause=self._pause,
            log=log,
            failure="not listening for a moment, sweeps go on",
        )

    def start(self) -> None:
        """Listen in a thread of its own until `stop`."""
        self._subscriptions.start()

    def stop(self) -> None:
        """Stop listening, within about a second; a thread that hangs in Redis or the broker is left behind."""
        self._subscriptions.stop(timeout=3)

    def _pause(self) -> float:
        """Seconds until the next subscription: none before the first one, then longer with each that fails."""
        pause = self._next_pause
        self._next_pause = _between(_PAUSE_SECONDS, 2 * pause, _LONGEST_PAUSE)
        return pause * random.uniform(0.5, 1.5)

    def _listen(self) -> None:
        services = self._connect()
        sessions = services.sessions
        shards = range(sessions.deployment.keyspace.shards)
        with sessions.announcements() as announcements:
            poll_all_at = 0.0
            while not self._subscriptions.is_stopped:
                nearest = min(self._agenda.values(), default=poll_all_at)
                received = announcements.wait(_between(0, min(nearest, poll_all_at) - time.monotonic(), _LONGEST_WAIT))
                if received is None or time.monotonic() >= poll_all_at:
                    self._poll(sessions, shards)
                    poll_all_at = time.monotonic() + services.settings.sweep_interval_seconds
                for shard, moment in (received or {}).items():
                    self._plan(shard, moment - self._ahead.get(shard, moment))
                now = time.monotonic()
                self._poll(sessions, [shard for shard, moment in self._agenda.items() if moment <= now])

    def _plan(self, shard: int, moment: float) -> None:
        self._agenda[shard] = min(moment, self._agenda.get(shard, moment))

    def _poll(self, sessions: SessionStore, shards: Sequence[int]) -> None:
        """Poll shards, send drains for those with due sessions, and plan the next poll of each."""
        if not shards:
            return
        for shard in shards:
            self._agenda.pop(shard, None)
        polls = sessions.poll_shards(shards, _ELECTION)
        for each in polls:
            self._ahead[each.shard] = each.now - time.monotonic()
            if each.next_due is not None:
                self._plan(each.shard, each.next_due - self._ahead[each.shard])
            if each.due and not each.elected:
                self._plan(each.shard, time.monotonic() + _ELECTION.total_seconds())
        due = {each.shard: each.due for each in polls if each.elected}
        if due:
            self._send(due)
        self._next_pause = _PAUSE_SECONDS


def _between(least: float, value: float, most: float) -> float:
    return max(least, min(value, most))
