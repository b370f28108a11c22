"""What a copy of an archive lacks, because it was made too early or has ended too early."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice

from torpor.history.protocol import SessionInfo
from torpor.worker.archive import contents, names, ownership
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.stores import ArchiveStore, StoredObject
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
class Missing:
    """What a copy lacks: `count` objects of the `original`, whose URL that is.

    Without an original, `count` sessions in Redis have archived messages that the copy lacks. `sessions` names some; an
    object of no session is named itself.
    """

    original: str | None
    count: int
    sessions: tuple[str, ...]

    def __str__(self) -> str:
        """What is missing, in words."""
        what = f"{self.count:,} objects of {self.original}" if self.original else f"segments of {self.count:,} sessions"
        return f"{what}, such as of {', '.join(map(repr, self.sessions))}"


def missing(
    services: Services,
    original_url: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
    *,
    apart_from: Container[str] = (),
) -> Missing | None:
    """What a copy lacks of the original or, if that can't be read, of what Redis knows; None if it lacks nothing.

    `progress` gets the number of objects or sessions so far. Lists both archives once, or each session of Redis that
    has archived messages. Changes nothing. Does not tell of the sessions `apart_from`.
    """
    original = readable(services, original_url) if original_url else None
    lacking = _of_original(services, original, progress) if original else _of_redis(services, progress)
    named, count = dict[str, None](), 0
    for subject in lacking:
        if subject in apart_from:
            continue
        count += 1
        if len(named) < _NAMED:
            named[subject] = None
    return Missing(original.url if original else None, count, tuple(named)) if count else None


def readable(services: Services, url: str) -> ArchiveStore | None:
    """The original archive; None if it is gone, can't be read, or is another deployment's by now."""
    try:
        archive = open_archive(url, patience=_PATIENCE_SECONDS)
        found = ownership.read(archive)
    except (ArchiveUnavailable, ArchiveCorrupt, ValueError):
        return None
    return archive if found.deployment == services.sessions.identity().deployment else None


def _of_original(services: Services, original: ArchiveStore, progress: Callable[[int], None]) -> Iterator[str]:
    copied = services.archive.list(f"{names.ROOT}/")
    there, now = next(copied, None), datetime.now(UTC)
    for number, stored in enumerate(original.list(f"{names.ROOT}/"), 1):
        while there and there.name < stored.name:  # both are in the order of their names
            there = next(copied, None)
        is_there = there and (there.name, there.size) == (stored.name, stored.size)
        if not is_there and stored.name != names.PROBE and not _is_expired(stored, now):
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
