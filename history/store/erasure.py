"""Removing sessions for good, and the lock of a purge."""

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
from torpor.history.errors import RedisMemoryFull, TorporError
from torpor.history.keys import purge_failure_key, purge_lock_key
from torpor.history.session import PurgeTarget, Purging
from torpor.history.store.operation import Operation
from torpor.history.store.runner import BlockingRunner

_FAILURE_KEPT = timedelta(days=7)


class PurgeLock:
    """Keeps other processes from carrying out the same purge. A hint: two at once waste work and do no harm."""

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
        """Record an error that ends the run, for `purge_progress`, and keep the lock for `retry`.

        A run without an error deletes the record.
        """
        try:
            yield
        except Exception as error:
            # The text of an error of another library could hold a message.
            text = str(error) if isinstance(error, TorporError) else type(error).__name__
            with suppress(TorporError), self._kind.translated:
                self._client.set(self._failure_key, text.encode(errors="replace"), px=_FAILURE_KEPT)
                self.keep(retry)
            raise
        with self._kind.translated:
            self._client.delete(self._failure_key)


class Erasure(BlockingRunner):
    """Purges sessions."""

    def purge(
        self, targets: Sequence[PurgeTarget], purge_id: str, *, tombstone: timedelta, idle: timedelta | None = None
    ) -> list[Purging | TorporError]:
        """Empty sessions at once and for good, whether they are in Redis or not; one pipeline, each atomic for itself.

        For the time of the tombstone late writes raise SessionPurged; the worker erases the archive. With `idle`, a
        session that was used within that time is left. The same purge can be run again. Each result is the outcome, or
        the error that this session met.
        """
        return self.run_many(
            [calls.purge(self._recorded, target, purge_id, tombstone=tombstone, idle=idle) for target in targets]
        )

    def rebase(self, targets: Sequence[PurgeTarget], *, idle: timedelta | None = None) -> list[Purging | TorporError]:
        """Keep the messages in Redis, in a new epoch, and forbid all archived ones; one pipeline, as `purge`.

        A session that was purged keeps its tombstone, and its outcome has no floor.
        """
        return self.run_many([calls.rebase(self._recorded, target, idle=idle) for target in targets])

    drop_live = Operation(calls.drop_live)

    def owned(self, owner: str) -> Iterator[str]:
        """Walk the ids of an owner's sessions in Redis, shard by shard; an id may come twice.

        One pipeline for each 16 shards, and one round trip for each further page of a shard. Raises InvalidOwner.
        """
        shards = range(self.deployment.keyspace.shards)
        for first in range(0, len(shards), 16):
            some = shards[first : first + 16]
            steps = self.run_many([calls.owned(self.deployment, shard, owner, b"0", 100) for shard in some])
            for shard, step in zip(some, steps, strict=True):
                if isinstance(step, TorporError):
                    raise step
                cursor, found = step
                yield from found
                while cursor != b"0":
                    cursor, found = self.run(calls.owned(self.deployment, shard, owner, cursor, 100))
                    yield from found

    @contextmanager
    def purging(self, purge_id: str, lease: timedelta) -> Iterator[PurgeLock | None]:
        """Keep the lock of a purge during the block; None if another process has it.

        Source: https://redis.readthedocs.io/en/stable/lock.html
        """
        lock = self._client.lock(
            purge_lock_key(self._namespace, purge_id).decode(),
            timeout=lease.total_seconds(),
            blocking=False,
            thread_local=False,
        )
        token = os.urandom(8).hex()
        purge_lock = PurgeLock(lock, self._client, self._kind, purge_failure_key(self._namespace, purge_id))
        try:
            with self._kind.translated:
                taken = lock.acquire(token=token) or self._has_taken(lock, token)  # the reply may have been lost
        except RedisMemoryFull:  # a purge frees memory, so it goes on without a lock
            purge_lock.unneeded = taken = True
        if not taken:
            yield None
            return
        try:
            yield purge_lock
        finally:
            if not purge_lock.kept:
                with suppress(TorporError), self._kind.translated:  # else it expires
                    lock.release()

    def _has_taken(self, lock: Lock, token: str) -> bool:
        owner: Any = self._client.get(lock.name)
        if owner in (token, token.encode()):
            lock.local.token = token.encode()
            return True
        return False

    def purge_progress(self, purge_id: str) -> tuple[bool, str | None]:
        """Whether a purge is running, and the error with which it failed last."""
        with self._kind.translated:
            running = bool(self._client.exists(purge_lock_key(self._namespace, purge_id)))
            failure: Any = self._client.get(purge_failure_key(self._namespace, purge_id))
        if failure is None:
            return running, None
        return running, failure if isinstance(failure, str) else failure.decode(errors="replace")
