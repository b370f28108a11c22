"""Lists of sessions, awake and asleep: an owner's, or those that a walk finds.

A list has an order, and can go on after any session, in another process and much later. The list of an owner reads the
owner's index in Redis and the owner markers of the archive, and nothing else. It misses no session that is there all
the time, and gives none twice. A walk reads Redis before the archive: it may miss a session that wakes up meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from heapq import nsmallest
from itertools import chain, islice

from torpor.history.protocol import SessionInfo, SessionKind, TorporError
from torpor.worker.access.asleep_count import AsleepCount
from torpor.worker.access.cursor import Cursor, Stretch
from torpor.worker.archive import contents, names, parts
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.pace import Pace
from torpor.worker.retention import expiry

_PAGE = 100
# How many ids of an owner are sorted at a time. With more, the owner's index is read again for each further lot.
_SORTED = 10_000
# How many ids are compared with a prefix at a time. To compare so many costs Redis less than to describe one session.
_IDS = 500
_COMPARED_FOR_ONE = 20


@dataclass(frozen=True, slots=True)
class AsleepSession:
    """A session that only the archive has. `message_count` is by the names of its segments, which may overlap."""

    session_id: str
    kind: SessionKind | None
    owner: str | None
    message_count: int
    last_active: datetime
    objects: int
    bytes: int
    status: str = "asleep"


@dataclass(frozen=True, slots=True)
class Listed:
    """A session of a list, or the error that Redis has for it, and where the list goes on after it."""

    session_id: str
    found: SessionInfo | AsleepSession | TorporError
    stretch: Stretch

    @property
    def cursor(self) -> str:
        """The text from which the list goes on."""
        return str(Cursor(self.stretch, self.session_id))


# The sessions of a list come in pages of up to 100, as they were looked at. A page of a walk may be empty: the walk has
# come further.
Page = Sequence[Listed]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a walk is: it has looked at `done` of `total` shards of Redis, or folders of the archive."""

    stretch: Stretch
    done: int
    total: int


def of_owner(services: Services, owner: str, after: Cursor | None = None, *, prefix: str = "") -> Iterator[Page]:
    """An owner's sessions by id, awake and asleep; raises InvalidOwner.

    A session that Redis does not have costs one listing; `TORPOR_CONCURRENCY` of these run at a time.
    """
    owners = owned(services, owner, after.session_id if after else "")
    return described(services, (each for each in owners if each.startswith(prefix)))


def described(services: Services, session_ids: Iterable[str]) -> Iterator[Page]:
    """These sessions of an owner, in their order, without those of which nothing is there (any more)."""
    ids = iter(session_ids)
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while page := list(islice(ids, _PAGE)):
            infos = dict(zip(page, services.sessions.infos(page), strict=True))
            missing = [session_id for session_id, info in infos.items() if _may_be_asleep(info)]
            asleep = dict(zip(missing, pool.map(lambda each: _look(services, each), missing), strict=True))
            found = [(session_id, asleep.get(session_id) or info) for session_id, info in infos.items()]
            yield [Listed(session_id, each, Stretch.OWNED) for session_id, each in found if each]


def owned(services: Services, owner: str, after: str = "") -> Iterator[str]:
    """The ids of an owner's sessions that come `after` one, each once, in their order. Raises InvalidOwner.

    Has at most 20,000 ids in memory. An owner with more than 10,000 costs the index once for each 10,000.
    """
    while True:
        lot = _smallest(catalog.owned(services, owner), after)
        yield from lot
        if len(lot) < _SORTED:
            return
        after = lot[-1]


def awake(
    services: Services,
    pace: Pace,
    after: Cursor | None = None,
    *,
    prefix: str = "",
    quarantined: bool | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Iterator[Page]:
    """The sessions in Redis, shard by shard, in each by id; tombstones too.

    Those in quarantine are among them, or with `quarantined` alone or not at all. Sorts the ids of one shard at a time,
    and describes only sessions that have the prefix.
    """
    keyspace = services.sessions.deployment.keyspace
    first, last_id = (keyspace.shard_of(after.session_id.encode()), after.session_id) if after else (0, "")
    indexes = (False, True) if quarantined is None else (quarantined,)
    for shard in range(first, keyspace.shards):
        progress(Progress(Stretch.AWAKE, shard, keyspace.shards))
        indexed = chain(*(services.sessions.sessions(quarantined=each, shards=[shard]) for each in indexes))
        found: set[str] = set()
        while lot := list(islice(indexed, pace.lot(_IDS))):
            pace.wait(len(lot) / _COMPARED_FOR_ONE)
            found.update(each for each in lot if each.startswith(prefix) and (shard != first or each > last_id))
            yield ()
        ids = iter(sorted(found))
        while page := list(islice(ids, pace.lot(_PAGE))):
            pace.wait(len(page))
            described = catalog.described(services, page)
            yield [Listed(session_id, each, Stretch.AWAKE) for session_id, each in described if each]
    progress(Progress(Stretch.AWAKE, keyspace.shards, keyspace.shards))


def asleep(
    services: Services,
    pace: Pace,
    after: Cursor | None = None,
    *,
    prefix: str = "",
    counts: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Iterator[Page]:
    """The sessions whose messages only the archive has, in the order of their folders. Lists the archive.

    If it `counts`, a walk through all of it, to its end, notes in Redis how many they are; else it changes nothing.
    """
    count = AsleepCount(services) if counts and not (after or prefix) else None
    begun = names.session_prefix(after.session_id) if after else ""
    for number, spread in enumerate(names.SPREADS):
        if spread < begun and not begun.startswith(spread):
            continue
        progress(Progress(Stretch.ASLEEP, number, len(names.SPREADS)))
        stored = (each for each in catalog.stored_in(services, spread) if names.session_prefix(each[0]) > begun)
        while lot := list(islice(stored, pace.lot(_PAGE))):
            page = [each for each in lot if each[0].startswith(prefix)]
            pace.wait(len(page) + (len(lot) - len(page)) / _COMPARED_FOR_ONE)
            infos = services.sessions.infos([session_id for session_id, _ in page])
            missing = [each for each, info in zip(page, infos, strict=True) if _may_be_asleep(info)]
            clock = cache(services.sessions.redis_time)
            found = [(session_id, _asleep(session_id, objects, clock)) for session_id, objects in missing]
            listed = [Listed(session_id, each, Stretch.ASLEEP) for session_id, each in found if each]
            if count:
                count.sessions += len(listed)
            yield listed
    if count:
        count.note()
    progress(Progress(Stretch.ASLEEP, len(names.SPREADS), len(names.SPREADS)))


def find(services: Services, session_id: str) -> SessionInfo | AsleepSession | TorporError | None:
    """One session: as Redis has it, else as the archive has it by one listing. None if neither has it."""
    [found] = services.sessions.infos([session_id])
    return (_look(services, session_id) if _may_be_asleep(found) else None) or found


def chosen(
    pages: Iterable[Page],
    is_wanted: Callable[[SessionInfo | AsleepSession], bool],
    unreadable: Callable[[str, TorporError], None],
    most: int,
) -> Iterator[Page]:
    """The first `most` sessions that are wanted, of each page, which may be none of it.

    Calls `unreadable` for each one whose metadata can't be read.
    """
    for page in pages:
        wanted: list[Listed] = []
        for each in page:
            if isinstance(each.found, TorporError):
                unreadable(each.session_id, each.found)
            elif is_wanted(each.found):
                wanted.append(each)
        yield wanted[:most]
        most -= len(wanted)
        if most <= 0:
            return


def _smallest(ids: Iterable[str], after: str) -> list[str]:
    """The first of these ids that come after one, sorted, each once."""
    kept: set[str] = set()
    for session_id in ids:
        if session_id > after:
            kept.add(session_id)
            if len(kept) >= 2 * _SORTED:
                kept = set(nsmallest(_SORTED, kept))
    return nsmallest(_SORTED, kept)


def _may_be_asleep(found: SessionInfo | TorporError | None) -> bool:
    """True if Redis has none of its messages and does not know that there are no others."""
    return found is None or (isinstance(found, SessionInfo) and found.is_note)


def _look(services: Services, session_id: str) -> AsleepSession | None:
    return _asleep(session_id, services.archive.list(names.session_prefix(session_id)), services.sessions.redis_time)


def _asleep(session_id: str, objects: Iterable[StoredObject], clock: expiry.Clock) -> AsleepSession | None:
    """A session as its objects describe it; None if nothing of it could be read."""
    found = expiry.unexpired(contents.sort(session_id, objects), clock)
    if not found:
        return None
    own = parts.of_first_owner(found)
    stored: Sequence[StoredObject] = [each.stored for each in found.segments]
    return AsleepSession(
        session_id=session_id,
        kind=own.kind,
        owner=parts.first_owner(found),
        message_count=parts.count(own),
        last_active=contents.last_active(stored),
        objects=len(stored),
        bytes=sum(each.size for each in stored),
    )
