"""Outages in the log: one line when a service fails, and one when it works again, for all processes of a worker."""

from __future__ import annotations

import logging
import mmap
import struct
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from multiprocessing import get_context
from time import monotonic

from torpor.history.protocol import RedisUnavailable
from torpor.worker.errors import ArchiveUnavailable

log = logging.getLogger("torpor.outages")

# Only then does an answer end an outage.
_LEAST_SECONDS = 1.0


class Service(StrEnum):
    """What a worker needs and may lose for a while, as the log calls it."""

    REDIS = "Redis"
    BROKER = "the broker"


class _Outage:
    """Whether a service fails. Who takes one of the two tokens, tells of the begin or of the end.

    A token is a semaphore in memory that the processes of a worker's pool share since they were forked. Nobody waits
    for it, so a killed process stops nobody. Celery closes the files of some processes, so it must not be one.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        tokens = get_context("fork")
        self._begin, self._end = tokens.Semaphore(1), tokens.Semaphore(0)
        self._since = mmap.mmap(-1, 8)

    def begin(self, error: object) -> None:
        if self._begin.acquire(block=False):
            self._since[:] = struct.pack("d", monotonic())
            self._end.release()
            log.warning("%s fails: %s", self._service, error)

    def end(self) -> None:
        if not self._end.acquire(block=False):
            return
        (since,) = struct.unpack("d", self._since[:])
        seconds = monotonic() - since
        if seconds < _LEAST_SECONDS:  # an answer that was on its way when the service failed
            self._end.release()
            return
        self._begin.release()
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
