"""Admission: how many requests of a person run at a time, so that nobody can take Redis down for all."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

# Of one person: so many requests run, so many more wait for them, and the others are refused.
RUNNING = 8
PRESENT = 64
# A walk looks at many sessions: so many of one person, and so many of all people together.
WALKING = 2
WALKING_OF_ALL = 8
WALKS_A_MINUTE = 30
# Of all people.
PRESENT_OF_ALL = 256
_RETRY_SECONDS = 5


class Crowded(Exception):
    """Too many requests; after `retry_seconds` there may be room."""

    def __init__(self, retry_seconds: int = _RETRY_SECONDS) -> None:
        super().__init__(retry_seconds)
        self.retry_seconds = retry_seconds


class Rate:
    """At most so many a minute for each name."""

    def __init__(self, a_minute: int) -> None:
        self._item = RateLimitItemPerMinute(a_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, name: str) -> None:
        """Count one; raises Crowded if that is too many."""
        if not self._limiter.hit(self._item, name):
            until = self._limiter.get_window_stats(self._item, name).reset_time
            raise Crowded(max(1, math.ceil(until - time.time())))


@dataclass(slots=True)
class _Requests:
    """The requests of one person."""

    present: int = 0
    walking: int = 0
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RUNNING))


class Admission:
    """Counts the requests of each person. For one event loop."""

    def __init__(self) -> None:
        self._people: dict[str, _Requests] = {}
        self._walks = Rate(WALKS_A_MINUTE)

    @asynccontextmanager
    async def turn(self, person: str, *, walks: bool) -> AsyncIterator[None]:
        """Wait for this person's turn, and have it during the block; raises Crowded."""
        own = self._people.get(person) or _Requests()
        self._check(own, walks=walks)
        if walks:
            self._walks.count(person)
        self._people[person] = own
        own.present += 1
        own.walking += walks
        try:
            async with own.turns:
                yield
        finally:
            own.present -= 1
            own.walking -= walks
            if not own.present:
                del self._people[person]

    def _check(self, own: _Requests, *, walks: bool) -> None:
        if own.present >= PRESENT or sum(each.present for each in self._people.values()) >= PRESENT_OF_ALL:
            raise Crowded
        if walks and own.walking >= WALKING:
            raise Crowded
        if walks and sum(each.walking for each in self._people.values()) >= WALKING_OF_ALL:
            raise Crowded
