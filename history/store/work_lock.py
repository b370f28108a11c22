"""Locks of jobs and of their batches, and how to ask who works and why a job failed. A purge is a job, too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import redis.exceptions
from redis.lock import Lock

from torpor.history import calls
from torpor.history.clients.kinds import ClientKind
from torpor.history.errors import RedisMemoryFull, RedisRefused, TorporError
from torpor.history.keys import job_failure_key, job_lock_key, purge_failure_key, purge_lock_key
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.operation import Operation

_FAILURE_KEPT = timedelta(days=7)


class WorkLock:
    """Keeps other processes from the same work. A hint: two at once waste work and do no harm."""

    def __init__(self, lock: Lock, client: Any, kind: ClientKind, failure_key: bytes) -> None:
        self._lock = lock
        self._client = client
        self._kind = kind
        self._failure_key = failure_key
        self.kept = False
        self.unneeded = False

    def extend(self, lease: timedelta) -> bool:
        """Prolong the lock to `lease` from now; False if it is lost."""
        if self.unneeded:
            return True
        try:
            with self._kind.translated:
                self._lock.extend(lease.total_seconds(), replace_ttl=True)
        except TorporError as error:
            if isinstance(error.__cause__, redis.exceptions.LockError):
                return False
            raise
        return True

    def keep(self, span: timedelta) -> None:
        """Keep the lock for `span` after this run has ended, so that nobody tries again before."""
        self.kept = self.extend(max(span, timedelta(milliseconds=1)))

    @contextmanager
    def noting_failure(self, retry: timedelta) -> Iterator[None]:
        """Record an error that ends the run, for those who ask for the progress, and keep the lock for `retry`.

        A run without an error deletes the record.
        """
        try:
            yield
        except Exception as error:
            # The text of an error of another library could have a message.
            text = str(error) if isinstance(error, TorporError) else type(error).__name__
            with suppress(TorporError), self._kind.translated:
                self._client.set(self._failure_key, text.encode(errors="replace"), px=_FAILURE_KEPT)
                self.keep(retry)
            raise
        with self._kind.translated:
            self._client.delete(self._failure_key)


class WorkLocks(BlockingRunner):
    """Locks jobs and purges, and tells which of them run or have failed."""

    @contextmanager
    def purging(self, purge_id: str, lease: timedelta) -> Iterator[WorkLock | None]:
        """Keep the lock of a purge during the block; None if another process has it."""
        key, failure = (each(self._namespace, purge_id) for each in (purge_lock_key, purge_failure_key))
        with self._locked(key, failure, lease) as lock:
            yield lock

    @contextmanager
    def working(self, job: str, part: str, lease: timedelta) -> Iterator[WorkLock | None]:
        """Keep the lock of a part of a job during the block, such as a batch; None if another process has it."""
        failure = job_failure_key(self._namespace, job)
        with self._locked(job_lock_key(self._namespace, job, part), failure, lease) as lock:
            yield lock

    @contextmanager
    def _locked(self, key: bytes, failure: bytes, lease: timedelta) -> Iterator[WorkLock | None]:
        """Source: https://redis.readthedocs.io/en/stable/lock.html ."""
        lock = self._client.lock(key.decode(), timeout=lease.total_seconds(), blocking=False, thread_local=False)
        token = os.urandom(8).hex()
        work_lock = WorkLock(lock, self._client, self._kind, failure)
        try:
            with self._kind.translated:
                taken = lock.acquire(token=token) or self._has_taken(lock, token)  # the reply may have been lost
        except RedisMemoryFull:  # a purge or a job may free memory, so it goes on without a lock
            work_lock.unneeded = taken = True
        if not taken:
            yield None
            return
        try:
            yield work_lock
        finally:
            if not work_lock.kept:
                with suppress(TorporError), self._kind.translated:  # else it expires
                    lock.release()

    def _has_taken(self, lock: Lock, token: str) -> bool:
        owner: Any = self._client.get(lock.name)
        if owner in (token, token.encode()):
            lock.local.token = token.encode()
            return True
        return False

    reserve = Operation(calls.reserve)

    def purge_progress(self, purge_id: str) -> tuple[bool, str | None]:
        """Whether a purge is running, and the error with which it failed last."""
        with self._kind.translated:
            running = bool(self._client.exists(purge_lock_key(self._namespace, purge_id)))
        return running, self._failure(purge_failure_key(self._namespace, purge_id))

    def job_failure(self, job: str) -> str | None:
        """The error with which a part of a job failed last."""
        return self._failure(job_failure_key(self._namespace, job))

    def in_work(self, job: str, parts: Sequence[str]) -> list[bool]:
        """For each part of a job, whether a process has its lock."""
        with self._kind.translated:
            return [bool(self._client.exists(job_lock_key(self._namespace, job, part))) for part in parts]

    def _failure(self, key: bytes) -> str | None:
        try:
            with self._kind.translated:
                failure: Any = self._client.get(key)
        except RedisRefused as error:
            return f"why it has failed can't be read; delete the key {key.decode()}: {error}"
        if failure is None:
            return None
        return failure if isinstance(failure, str) else failure.decode(errors="replace")
