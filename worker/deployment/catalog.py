"""Walks over a deployment's sessions: those in Redis, those asleep, an owner's, the idle ones, all.

A walk has at most a page of sessions in memory. It lists Redis before the archive, so that it does not miss a session
that falls asleep meanwhile. So it may give an id twice. It may miss a session that is created during the walk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, groupby, islice, product

from torpor.history.protocol import PermanentError, SessionInfo, TorporError
from torpor.worker.archive import contents, names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services

log = logging.getLogger("torpor.catalog")

_PAGE = 500
# Sessions with their objects take more memory than ids.
_BATCH = 100


def described(services: Services, session_ids: Iterable[str]) -> Iterator[tuple[str, SessionInfo | TorporError | None]]:
    """Each session as Redis has it: None if it is not there, an error if its metadata can't be read."""
    ids = iter(session_ids)
    while page := list(islice(ids, _PAGE)):
        yield from zip(page, services.sessions.infos(page), strict=True)


def live(services: Services) -> Iterator[str]:
    """The sessions in Redis, the ones in quarantine last."""
    return chain(services.sessions.sessions(), services.sessions.sessions(quarantined=True))


def asleep(services: Services, *, idle_since: datetime | None = None) -> Iterator[str]:
    """The sessions that only the archive has; with `idle_since`, those that were not active after it."""
    for session_id, info in _known(services, _archived(services, idle_since)):
        if info is None:
            yield session_id


def everything(services: Services, unreadable: Callable[[str, PermanentError], None]) -> Iterator[str]:
    """All sessions, each once. Unlike the other walks, it remembers each id that it has given.

    Goes on if the index of a shard can't be read, and calls `unreadable` with the shard's name and the error.
    """
    seen: set[str] = set()
    for session_id in chain(_indexed(services, unreadable), _archived(services, None)):
        if session_id not in seen:
            seen.add(session_id)
            yield session_id


def owned(services: Services, owner: str, *, archived: bool = True) -> Iterator[str]:
    """An owner's sessions in Redis, and those in the archive unless `archived` is False."""
    return chain(services.sessions.owned(owner), marked(services, owner) if archived else ())


def idle(services: Services, since: datetime, *, archived: bool = True) -> Iterator[str]:
    """The sessions that were not active after `since`: those in Redis, and those asleep unless `archived` is False."""
    for session_id, info in _known(services, live(services)):
        if info and info.last_active <= since:
            yield session_id
    if archived:
        yield from asleep(services, idle_since=since)


def owned_and_idle(services: Services, owner: str, since: datetime, *, archived: bool = True) -> Iterator[str]:
    """An owner's sessions that were not active after `since`, by Redis or, if they are asleep, by the archive."""
    for session_id, info in _known(services, owned(services, owner, archived=archived)):
        if info:
            if info.last_active <= since:
                yield session_id
            continue
        if _is_idle(session_id, services.archive.list(names.session_prefix(session_id)), since):
            yield session_id


def stored_sessions(services: Services) -> Iterator[tuple[str, list[StoredObject]]]:
    """The sessions in the archive, each with its objects."""
    for spread in names.SPREADS:
        yield from stored_in(services, spread)


def stored_in(services: Services, spread: str) -> Iterator[tuple[str, list[StoredObject]]]:
    """The sessions below one of `names.SPREADS`, each with its objects, in the order of their folders."""
    for folder, group in groupby(services.archive.list(spread), key=lambda each: names.folder_of(each.name)):
        objects = list(group)
        session_id = names.stored_session(folder, (each.metadata for each in objects))
        if session_id is not None:
            yield session_id, objects


def stored_in_batches(
    services: Services, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Sequence[tuple[str, list[StoredObject]]]]:
    """As `stored_sessions`, some at a time; `progress` gets the number of sessions so far, after each batch."""
    walk, done = stored_sessions(services), 0
    while batch := list(islice(walk, _BATCH)):
        yield batch
        done += len(batch)
        progress(done)


def _indexed(services: Services, unreadable: Callable[[str, PermanentError], None]) -> Iterator[str]:
    for shard, quarantined in product(range(services.sessions.deployment.keyspace.shards), (False, True)):
        try:
            yield from services.sessions.sessions(quarantined=quarantined, shards=[shard])
        except PermanentError as error:
            unreadable(f"shard {shard}", error)


def _known(services: Services, session_ids: Iterable[str]) -> Iterator[tuple[str, SessionInfo | None]]:
    """As `described`, without the sessions whose keys are not Torpor's: they are logged, and the walk goes on.

    Raises the error of a session that may be readable later.
    """
    for session_id, info in described(services, session_ids):
        if isinstance(info, PermanentError):
            log.warning("session %r is left out, torpor doctor lists it: %s", session_id, info)
        elif isinstance(info, TorporError):
            raise info
        else:
            yield session_id, info


def marked(services: Services, owner: str) -> Iterator[str]:
    """An owner's sessions in the archive, by the owner markers."""
    markers = services.archive.list(names.all_owner_markers(owner))
    for session_id, _ in groupby(names.marked_session(owner, each.name, each.metadata) for each in markers):
        if session_id is not None:
            yield session_id


def _archived(services: Services, idle_since: datetime | None) -> Iterator[str]:
    for session_id, objects in stored_sessions(services):
        if idle_since is None or _is_idle(session_id, objects, idle_since):
            yield session_id


def _is_idle(session_id: str, objects: Iterable[StoredObject], since: datetime) -> bool:
    """True if there are segments or markers of a session, and none of them tells of an activity after `since`."""
    own = [stored for stored in objects if names.parse(session_id, stored.name)]
    return bool(own) and contents.last_active(own) <= since
