"""Outages in the log: one line when a service fails, and one when it works again, for all processes of a worker."""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from functools import cache

from torpor.history.protocol import RedisUnavailable
from torpor.worker.errors import ArchiveUnavailable

log = logging.getLogger("torpor.outages")

# Only then does an answer end an outage.
_LEAST_SECONDS = 1.0


class Service(StrEnum):
    """What a worker needs and may lose for a while, as the log calls it."""

    REDIS = "Redis"
    BROKER = "the broker"


class _Token:
    """Something that one process or thread has at a time, since a moment; nobody has it after a fork of all.

    The processes of a worker's pool share the pipe since they were forked. A read takes all of the token or nothing, so
    nobody needs a lock, which a killed process would keep.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)

    def put(self, moment: float) -> None:
        """Let somebody take it."""
        os.write(self._writing, struct.pack("d", moment))

    def take(self) -> float | None:
        """The moment that was put; None if somebody else has it."""
        with suppress(BlockingIOError):
            (moment,) = struct.unpack("d", os.read(self._reading, 8))
            return float(moment)
        return None


class _Outage:
    """Whether a service fails: either token may be taken, the one for the next begin or the one for the end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._begin, self._end = _Token(), _Token()
        self._begin.put(0)

    def begin(self, error: object) -> None:
        if self._begin.take() is not None:
            self._end.put(time.monotonic())
            log.warning("%s fails: %s", self._service, error)

    def end(self) -> None:
        if (since := self._end.take()) is None:
            return
        seconds = time.monotonic() - since
        if seconds < _LEAST_SECONDS:  # an answer that was on its way when the service failed
            self._end.put(since)
            return
        self._begin.put(0)
        log.warning("%s works again, after %.0f seconds", self._service, seconds)


@cache
def _outages() -> Mapping[Service, _Outage]:
    return {service: _Outage(service) for service in Service}


def share() -> None:
    """Before the pool forks: let its processes tell of outages as one."""
    _outages()


def begin(service: Service, error: object) -> None:
    """Note that a service fails. The first one to note it logs the error."""
    _outages()[service].begin(error)


def end(service: Service) -> None:
    """Note that a service works. If it has failed, the first one to note it logs that."""
    _outages()[service].end()


def level(error: Exception, usual: int = logging.WARNING) -> int:
    """The level of a record about what an error has prevented: the usual one, or DEBUG if the error is of an outage.

    The log tells of an outage of Redis here, and of the archive's when the first worker notes it for all.
    """
    if isinstance(error, RedisUnavailable):
        begin(Service.REDIS, error)
    return logging.DEBUG if isinstance(error, (RedisUnavailable, ArchiveUnavailable)) else usual
