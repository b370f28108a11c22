"""Stores that let a test act at a named point of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, BinaryIO

import redis

from support.sessions import with_settings
from torpor.history.protocol import (
    CommitOutcome,
    EraseOutcome,
    Lease,
    Origin,
    Page,
    RestoreEnd,
    RestoreRefusal,
    RestoreTicket,
    SessionInfo,
    SessionOperations,
    SessionStore,
    TorporError,
)
from torpor.history.store.runner import Runner
from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore, Safeguards, StoredObject
from torpor.worker.deployment.services import Services


class Points:
    """Named points of the protocol. A test says what happens when one is first reached; `log` holds all of them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._acts: dict[str, Callable[[], object]] = {}

    def at(self, point: str, act: Callable[[], object]) -> None:
        self._acts[point] = act

    def reach(self, point: str) -> None:
        self.log.append(point)
        if act := self._acts.pop(point, None):
            act()

    @property
    def pending(self) -> list[str]:
        """The points that were never reached: a test that leaves one has tested nothing."""
        return list(self._acts)


class WatchedOperations(SessionOperations):
    """The real operations, with a point before and after each step of a restore."""

    def __init__(self, runner: Runner, points: Points) -> None:
        super().__init__(runner)
        self._points = points

    async def info(self, session_id: str) -> SessionInfo | None:
        found = await super().info(session_id)
        self._points.reach("after info")
        return found

    async def pages(
        self, session_id: str, start: int = 0, stop: int | None = None, *, touch: bool = False
    ) -> AsyncIterator[Page]:
        async for page in super().pages(session_id, start, stop, touch=touch):
            yield page
            self._points.reach("between pages")

    async def begin_restore(
        self, session_id: str, lease: timedelta, *, alone: bool = False, token: bytes | None = None
    ) -> RestoreTicket | RestoreRefusal:
        self._points.reach("before begin")
        ticket = await super().begin_restore(session_id, lease, alone=alone, token=token)
        self._points.reach("after begin")
        return ticket

    async def stage(self, ticket: RestoreTicket, staged: int, messages: Sequence[bytes], lease: timedelta) -> bool:
        done = await super().stage(ticket, staged, messages, lease)
        self._points.reach("after stage")
        return done

    async def finish_restore(
        self, ticket: RestoreTicket, staged: int, origin: Origin, *, remember: timedelta | None = None
    ) -> RestoreEnd:
        self._points.reach("before finish_restore")
        outcome = await super().finish_restore(ticket, staged, origin, remember=remember)
        self._points.reach("after finish_restore")
        return outcome


class WatchedSessions(SessionStore):
    """The real store, with a point before and after each step of an archive and of a restore."""

    def __init__(self, client: redis.Redis, points: Points) -> None:
        super().__init__(client)
        self.points = points
        self.operations = WatchedOperations(self, points)

    def info(self, session_id: str) -> SessionInfo | None:
        found = super().info(session_id)
        self.points.reach("after info")
        return found

    def snapshots(self, leases: Sequence[Lease]) -> list[SessionInfo | TorporError | None]:
        self.points.reach("before snapshot")
        taken = super().snapshots(leases)
        self.points.reach("after snapshot")
        return taken

    def heads(self, sessions: Sequence[SessionInfo], size: int) -> list[Page | TorporError | None]:
        read = super().heads(sessions, size)
        self.points.reach("after heads")
        return read

    def renew(self, leases: Sequence[Lease], duration: timedelta) -> list[Lease | TorporError | None]:
        renewed = super().renew(leases, duration)
        self.points.reach("after renew")
        return renewed

    def commits(self, verified: Sequence[tuple[Lease, SessionInfo]]) -> list[CommitOutcome | TorporError]:
        self.points.reach("before commit")
        outcomes = super().commits(verified)
        self.points.reach("after commit")
        return outcomes

    def note_erased(self, lease: Lease, floor: int) -> EraseOutcome:
        self.points.reach("before note_erased")
        outcome = super().note_erased(lease, floor)
        self.points.reach("after note_erased")
        return outcome


@dataclass(frozen=True)
class WatchedArchive:
    """A real archive store, with a point before and after each call."""

    real: ArchiveStore
    points: Points

    @property
    def url(self) -> str:
        return self.real.url

    def put(
        self,
        name: str,
        body: BinaryIO,
        size: int,
        *,
        metadata: Mapping[str, str],
        custom_time: datetime | None = None,
        held: bool = False,
    ) -> StoredObject:
        what = "segment" if name.endswith(".jsonl.gz") and not name.startswith(names.RECEIPTS) else "marker"
        self.points.reach(f"before {what} put")
        stored = self.real.put(name, body, size, metadata=metadata, custom_time=custom_time, held=held)
        self.points.reach(f"after {what} put")
        return stored

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        self.points.reach("before list")
        yield from self.real.list(prefix, generations=generations)

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        self.points.reach("before open")
        with self.real.open(stored) as body:
            yield body

    def delete(self, stored: StoredObject) -> bool:
        self.points.reach("before delete")
        deleted = self.real.delete(stored)
        self.points.reach("after delete")
        return deleted

    def amend(self, stored: StoredObject, *, custom_time: datetime | None = None, held: bool | None = None) -> None:
        self.points.reach("before amend")
        self.real.amend(stored, custom_time=custom_time, held=held)
        self.points.reach("after amend")

    def expire(self, now: datetime) -> int:
        return self.real.expire(now)

    def safeguards(self) -> Safeguards | None:
        return self.real.safeguards()

    def apply_lifecycle(self) -> bool:
        return self.real.apply_lifecycle()

    def check(self) -> None:
        self.real.check()


def watch(services: Services, **settings: Any) -> tuple[Services, Points]:
    """The same services with points in them, and other settings where some are given."""
    points = Points()
    sessions = WatchedSessions(services.sessions.client, points)
    watched = replace(services, sessions=sessions, archive=WatchedArchive(services.archive, points))
    return with_settings(watched, **settings), points
