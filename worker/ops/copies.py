"""How a copy of an archive differs from its original, because it was made too early or has ended too early."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice

from torpor.history.protocol import SessionInfo
from torpor.worker.archive import contents, names, ownership
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.stores import ROOT, ArchiveStore, StoredObject
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveCorrupt, ArchiveUnavailable

# How many of the sessions with missing objects are named.
_NAMED = 20
_PAGE = 500
# The original may be gone.
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Difference:
    """What a copy lacks, or what it still has and the original has not: `count` objects of `original`, a URL.

    Without an original, `count` sessions in Redis have archived messages that the copy lacks. `sessions` names some; an
    object of no session is named itself.
    """

    original: str | None
    count: int
    sessions: tuple[str, ...]

    @classmethod
    def of(cls, original: str | None, subjects: Iterable[str]) -> Difference | None:
        """The difference that is about these sessions and objects; None if there are none."""
        named, count = dict[str, None](), 0
        for subject in subjects:
            count += 1
            if len(named) < _NAMED:
                named[subject] = None
        return cls(original, count, tuple(named)) if count else None

    def __str__(self) -> str:
        """The objects or sessions, in words."""
        what = f"{self.count:,} objects of {self.original}" if self.original else f"segments of {self.count:,} sessions"
        return f"{what}, such as of {', '.join(map(repr, self.sessions))}"


def missing(
    services: Services, progress: Callable[[int], None] = lambda _: None, *, apart_from: Container[str] = ()
) -> Difference | None:
    """What a copy lacks of what Redis knows to be archived; None if it lacks nothing.

    `progress` gets the number of sessions so far. Lists each session of Redis that has archived messages. Changes
    nothing. Does not tell of the sessions `apart_from`.
    """
    lacking = (session for session in _of_redis(services, progress) if session not in apart_from)
    return Difference.of(None, lacking)


def compare(
    services: Services, original_url: str | None, progress: Callable[[int], None] = lambda _: None
) -> tuple[Difference | None, Difference | None]:
    """What a copy lacks of the original, and what it has that was erased in the original since; None for nothing.

    If the original can't be read, as `missing`. `progress` gets the number of objects or sessions so far. Lists both
    archives twice. Changes nothing.
    """
    original = readable(services, original_url) if original_url else None
    if original is None:
        return missing(services, progress), None
    now = services.sessions.redis_time()
    lacking = _only_in(original, services.archive, progress, (names.PROBE,), now, same_size=True)
    # An entry of the audit trail is never erased, and the copy may have that of an earlier try to move there.
    erased = _only_in(services.archive, original, progress, (names.PROBE, names.AUDIT), now, same_size=False)
    return Difference.of(original.url, lacking), Difference.of(original.url, erased)


def readable(services: Services, url: str) -> ArchiveStore | None:
    """The original archive; None if it is gone, can't be read, or is another deployment's by now."""
    try:
        archive = open_archive(url, patience=_PATIENCE_SECONDS)
        found = ownership.read(archive)
    except (ArchiveUnavailable, ArchiveCorrupt, ValueError):
        return None
    return archive if found.deployment == services.sessions.identity().deployment else None


def _only_in(
    archive: ArchiveStore,
    other: ArchiveStore,
    progress: Callable[[int], None],
    apart: tuple[str, ...],
    now: datetime,
    *,
    same_size: bool,
) -> Iterator[str]:
    """The subjects of the objects that only the first archive has, by name, or also by size.

    Those whose names begin with one of `apart`, or that have expired by `now`, do not count.
    """
    others = other.list(ROOT)
    there = next(others, None)
    for number, stored in enumerate(archive.list(ROOT), 1):
        while there and there.name < stored.name:  # both are in the order of their names
            there = next(others, None)
        is_there = there and there.name == stored.name and (not same_size or there.size == stored.size)
        if not is_there and not stored.name.startswith(apart) and not _is_expired(stored, now):
            yield stored.metadata.get("session", stored.name)
        if number % _PAGE == 0:
            progress(number)


def _is_expired(stored: StoredObject, now: datetime) -> bool:
    return stored.custom_time is not None and stored.custom_time <= now and not stored.held


def _of_redis(services: Services, progress: Callable[[int], None]) -> Iterator[str]:
    walk, done = catalog.described(services, catalog.live(services)), 0
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while page := list(islice(walk, _PAGE)):
            archived = [info for _, info in page if isinstance(info, SessionInfo) and info.archived_count]
            looks = pool.map(lambda info: contents.look(services.archive, info.session_id), archived)
            yield from (info.session_id for info, found in zip(archived, looks, strict=True) if _lacks(info, found))
            done += len(page)
            progress(done)


def _lacks(info: SessionInfo, found: Contents) -> bool:
    """True if the segments have fewer messages than Redis knows to be archived, by their names.

    False if Redis has forgotten a clear: then they were erased.
    """
    if found.floor > info.epoch:
        return False
    reached = {
        epoch: _reached((segment.name.start, segment.name.stop) for segment in segments)
        for epoch, segments in groupby(found.segments, key=lambda segment: segment.name.epoch)
    }
    older = sum(count for epoch, count in reached.items() if epoch < info.epoch)
    return older < info.restored_count or reached.get(info.epoch, 0) < info.archived_count - info.restored_count


def _reached(spans: Iterable[tuple[int, int]]) -> int:
    """How many messages of an epoch there are without a gap."""
    reached = 0
    for start, stop in spans:
        reached = max(reached, stop) if start <= reached else reached
    return reached
