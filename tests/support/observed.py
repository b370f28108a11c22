"""Stores that hand each of their calls to an interceptor, which acts before it, after it, or in its place.

This is how tests interrupt the protocol between two calls to Redis or to the archive: `Points` for a test that acts at
one point, `support.stepped.Task` for a walk that decides the order of all calls. The steps inside the worker have
names of their own, see torpor.worker.failpoints.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO, Literal, Protocol, TypeVar

from support.sessions import with_settings
from torpor.history.calls import Call
from torpor.history.clients.blocking import run_sync
from torpor.history.protocol import SessionStore, TorporError
from torpor.worker.archive import names
from torpor.worker.archive.stores import ArchiveStore, Confirm, Safeguards, StoredObject
from torpor.worker.deployment.services import Services

T = TypeVar("T")


@dataclass(frozen=True)
class StoreCall:
    """A call to Redis, by the name of its script, or to the archive, by what it does."""

    store: Literal["redis", "archive"]
    name: str
    subject: str = ""  # the last part of an object's name


class Interceptor(Protocol):
    """Decides what happens around a call."""

    def make(self, call: StoreCall, act: Callable[[], T]) -> T:
        """Make the call with `act` and return its result, or raise an error for the caller."""


class ObservedStore(SessionStore):
    """The real store. Calls that are sent together are one call, "<script> batch"."""

    def __init__(self, client: Any, interceptor: Interceptor, *, shards: int | None = None) -> None:
        super().__init__(client, shards=shards)
        self.interceptor = interceptor

    async def perform(self, call: Call[T]) -> T:
        return self.interceptor.make(StoreCall("redis", call.script.name), lambda: self.send(call))

    def send(self, call: Call[T]) -> T:
        """Send one call, past the interceptor."""
        return run_sync(super().perform(call))

    def run_many(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        if not many:
            return []
        send = super().run_many
        return self.interceptor.make(StoreCall("redis", f"{many[0].script.name} batch"), lambda: send(many))


@dataclass(frozen=True)
class ObservedArchive:
    """A real archive store. With `listed_at_a_time`, each page of a list is a call."""

    real: ArchiveStore
    interceptor: Interceptor
    listed_at_a_time: int | None = None

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
        confirm: Confirm | None = None,
    ) -> StoredObject:
        segment = name.endswith(".jsonl.gz") and not name.startswith(names.PURGES.work)
        return self._make(
            "put segment" if segment else "put marker",
            name,
            lambda: self.real.put(
                name, body, size, metadata=metadata, custom_time=custom_time, held=held, confirm=confirm
            ),
        )

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        found = self.real.list(prefix, generations=generations)
        while True:
            page = self._make("list", "", lambda: [*islice(found, self.listed_at_a_time)])
            yield from page
            if self.listed_at_a_time is None or len(page) < self.listed_at_a_time:
                return

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        def read() -> bytes:
            with self.real.open(stored) as body:
                return body.read()

        yield io.BytesIO(self._make("open", "", read))

    def delete(self, stored: StoredObject) -> bool:
        return self._make("delete", stored.name, lambda: self.real.delete(stored))

    def discard(self, stored: StoredObject) -> bool:
        return self._make("discard", stored.name, lambda: self.real.discard(stored))

    def amend(
        self,
        stored: StoredObject,
        *,
        custom_time: datetime | None = None,
        held: bool | None = None,
        entries: Mapping[str, str | None] | None = None,
    ) -> None:
        self._make(
            "amend", stored.name, lambda: self.real.amend(stored, custom_time=custom_time, held=held, entries=entries)
        )

    def annotate(self, stored: StoredObject, entries: Mapping[str, str]) -> bool:
        return self._make("annotate", stored.name, lambda: self.real.annotate(stored, entries))

    def expire(self, now: datetime) -> int:
        return self.real.expire(now)

    def safeguards(self) -> Safeguards | None:
        return self.real.safeguards()

    def apply_lifecycle(self) -> bool:
        return self.real.apply_lifecycle()

    def check(self) -> None:
        self.real.check()

    def _make(self, call: str, name: str, act: Callable[[], T]) -> T:
        return self.interceptor.make(StoreCall("archive", call, name.rpartition("/")[2]), act)


class Points:
    """Points before and after each call, such as "after put segment".

    A test says what happens when a point is first reached. `log` holds all points that were reached, and `calls` all
    calls that were begun.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self._acts: dict[str, Callable[[], object]] = {}

    def at(self, point: str, act: Callable[[], object]) -> None:
        self._acts[point] = act

    def make(self, call: StoreCall, act: Callable[[], T]) -> T:
        self._reach(f"before {call.name}")
        result = act()
        self._reach(f"after {call.name}")
        return result

    @property
    def calls(self) -> list[str]:
        return [point.removeprefix("before ") for point in self.log if point.startswith("before ")]

    @property
    def pending(self) -> list[str]:
        """The points that were never reached: a test that leaves such a point has tested nothing."""
        return list(self._acts)

    def _reach(self, point: str) -> None:
        self.log.append(point)
        if act := self._acts.pop(point, None):
            act()


def watch(services: Services, **settings: Any) -> tuple[Services, Points]:
    """The same services with points around their calls, and with other settings if any are given."""
    points = Points()
    sessions = ObservedStore(services.sessions.client, points)
    watched = replace(services, sessions=sessions, archive=ObservedArchive(services.archive, points))
    return with_settings(watched, **settings), points
