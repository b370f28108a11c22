"""When a call is sent again: its reply was lost, or all connections of the client were in use."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from torpor.history.clients.kinds import ClientKind, Translation
from torpor.history.errors import NoFreeConnection, TorporError, TransientError

T = TypeVar("T")

# Like the pauses of a client of `connect`. A client with fewer retries than these gets the rest from here.
PAUSES_SECONDS: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)

# As long as redis-py's BlockingConnectionPool waits; clients of a Cluster can't have one.
FREE_WITHIN_SECONDS = 20.0
_LOOK_SECONDS = 0.02
# A look that finds no connection costs about as much CPU as a call. However many calls wait, one of them looks about
# this often, so that the calls that have a connection get on.
_LOOK_TOGETHER_SECONDS = 0.0005


class _Waiting:
    """How many calls of this process wait for a free connection."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._begin_anew)

    def add(self, count: int) -> int:
        """Add to the number; returns it."""
        with self._lock:
            self._count += count
            return self._count

    def _begin_anew(self) -> None:
        self._count, self._lock = 0, threading.Lock()


_WAITING = _Waiting()


class Resending:
    """Decides after each failure of one call, or of one pipeline, whether it is sent again."""

    def __init__(self, own_retries: int = 0) -> None:
        """`own_retries`: how often the client itself sends a command again."""
        self._pauses = iter(PAUSES_SECONDS[own_retries:])
        self._patient_until = time.monotonic() + FREE_WITHIN_SECONDS
        self._waits = False

    def pause_after(self, error: TorporError, *, repeatable: bool) -> float | None:
        """The seconds after which to send again; None to give up.

        A call that found no free connection was never sent, so `repeatable` does not matter for it.
        """
        if isinstance(error, NoFreeConnection):
            waiting = _WAITING.add(0 if self._waits else 1)
            self._waits = True
            mean = max(_LOOK_SECONDS, waiting * _LOOK_TOGETHER_SECONDS)
            return random.uniform(0, 2 * mean) if time.monotonic() < self._patient_until else None
        if not repeatable or not isinstance(error, TransientError):
            return None
        pause = next(self._pauses, None)
        return None if pause is None else pause * random.uniform(0.5, 1)

    def end(self) -> None:
        """The call has ended, so it waits no more."""
        if self._waits:
            _WAITING.add(-1)
            self._waits = False


async def persistently(
    act: Callable[[], Awaitable[T]],
    *,
    translated: Translation,
    resending: Callable[[], Resending],
    pause: Callable[[float], Awaitable[None]],
    repeatable: bool,
    failed: Exception | None = None,
) -> T:
    """Do `act`, and again while `resending` says so of the error that its own is `translated` into.

    `failed` is the error of a first try that was made already.
    """
    decides: Resending | None = None
    try:
        while True:
            try:
                with translated:
                    if failed:
                        raise failed
                    return await act()
            except TorporError as error:
                decides = decides or resending()
                seconds = decides.pause_after(error, repeatable=repeatable)
                if seconds is None:
                    raise
            failed = None
            await pause(seconds)
    finally:
        if decides:
            decides.end()


def own_retries(client: Any, kind: ClientKind) -> int:
    """How often a client itself sends a command again, with pauses: not on a Cluster, nor does valkey-py by itself."""
    retry: Any = None if kind.cluster or not hasattr(client, "get_retry") else client.get_retry()
    count: int = retry.get_retries() if hasattr(retry, "get_retries") else 0
    return len(PAUSES_SECONDS) if count < 0 else count
