"""MeasuredStore: counts the requests to an archive by verb and outcome, and measures how long they take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import BinaryIO

from torpor.worker import measures
from torpor.worker.archive.stores import ArchiveStore, Confirm, Safeguards, StoredObject
from torpor.worker.errors import (
    ArchiveConflict,
    ArchiveCorrupt,
    ArchiveRefused,
    ArchiveUnavailable,
    ObjectNotFound,
)

_OUTCOMES = (
    (ArchiveUnavailable, "unavailable"),
    (ArchiveRefused, "refused"),
    (ArchiveConflict, "conflict"),
    (ArchiveCorrupt, "corrupt"),
    (ObjectNotFound, "missing"),
)


class MeasuredStore:
    """Another store, measured. A request is one call of the protocol, with its retries.

    A listing lasts until its first object, and an opened object until it can be read.
    """

    def __init__(self, store: ArchiveStore) -> None:
        self._store = store

    @property
    def url(self) -> str:
        """See ArchiveStore."""
        return self._store.url

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
        """See ArchiveStore."""
        with _measured("put"):
            return self._store.put(
                name, body, size, metadata=metadata, custom_time=custom_time, held=held, confirm=confirm
            )

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        """See ArchiveStore."""
        listing = iter(self._store.list(prefix, generations=generations))
        with _measured("list"):
            first = next(listing, None)
        if first is not None:
            yield first
            yield from listing

    @contextmanager
    def open(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """See ArchiveStore."""
        with ExitStack() as stack:
            with _measured("read"):
                body = stack.enter_context(self._store.open(stored))
            yield body

    def delete(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        with _measured("delete"):
            return self._store.delete(stored)

    def discard(self, stored: StoredObject) -> bool:
        """See ArchiveStore."""
        with _measured("delete"):
            return self._store.discard(stored)

    def amend(
        self,
        stored: StoredObject,
        *,
        custom_time: datetime | None = None,
        held: bool | None = None,
        entries: Mapping[str, str | None] | None = None,
    ) -> None:
        """See ArchiveStore."""
        with _measured("amend"):
            self._store.amend(stored, custom_time=custom_time, held=held, entries=entries)

    def annotate(self, stored: StoredObject, entries: Mapping[str, str]) -> bool:
        """See ArchiveStore."""
        with _measured("amend"):
            return self._store.annotate(stored, entries)

    def expire(self, now: datetime) -> int:
        """See ArchiveStore."""
        return self._store.expire(now)

    def safeguards(self) -> Safeguards | None:
        """See ArchiveStore."""
        return self._store.safeguards()

    def apply_lifecycle(self) -> bool:
        """See ArchiveStore."""
        return self._store.apply_lifecycle()

    def check(self) -> None:
        """See ArchiveStore."""
        self._store.check()


class _measured:  # noqa: N801 - a context manager; as a generator it would take twice the time
    __slots__ = "_began", "_verb"

    def __init__(self, verb: str) -> None:
        self._verb = verb

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            measures.count(f"requests:{self._verb}:ok")
            measures.observe(f"request:{self._verb}", time.monotonic() - self._began)
        elif issubclass(kind, Exception):
            outcome = next((named for each, named in _OUTCOMES if issubclass(kind, each)), "failed")
            measures.count(f"requests:{self._verb}:{outcome}")
