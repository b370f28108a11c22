"""Which sessions a purge order is for. A walk over them; it holds no more than a page of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain, groupby, islice

from torpor.history.protocol import SessionInfo, TorporError
from torpor.worker.archive import contents, names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.orders import Order, Scope

_PAGE = 500


def targets(services: Services, order: Order) -> Iterator[str]:
    """The ids of the sessions, those in Redis first, so that none is missed that goes to sleep meanwhile.

    An id may come twice. A session that comes into being during the walk may be missed. Whether a session in Redis has
    been idle for long enough is decided again when it is removed.
    """
    if order.session is not None:
        yield order.session
        return
    in_archive = order.scope is not Scope.LIVE
    cutoff = None if order.idle is None else services.sessions.now() - order.idle
    if order.owner is None:
        yield from _idle(
            services, chain(services.sessions.sessions(), services.sessions.sessions(quarantined=True)), cutoff
        )
        if in_archive:
            yield from asleep(services, cutoff)
        return
    owned = chain(services.sessions.owned(order.owner), _marked(services, order.owner) if in_archive else ())
    yield from owned if cutoff is None else _idle_or_asleep(services, owned, cutoff)


def asleep(services: Services, cutoff: datetime | None = None) -> Iterator[str]:
    """The sessions that are in the archive alone, those that were last active before `cutoff` where one is given."""
    for info in _infos(services, _archived(services, cutoff)):
        if isinstance(info, str):
            yield info


def _idle(services: Services, session_ids: Iterable[str], cutoff: datetime | None) -> Iterator[str]:
    """Those that are in Redis and were last active before `cutoff`."""
    for info in _infos(services, session_ids):
        if isinstance(info, SessionInfo) and (cutoff is None or info.last_active <= cutoff):
            yield info.session_id


def _idle_or_asleep(services: Services, session_ids: Iterable[str], cutoff: datetime) -> Iterator[str]:
    """Those that were last active before `cutoff`, as Redis knows, or the archive where it does not."""
    for info in _infos(services, session_ids):
        if isinstance(info, SessionInfo):
            if info.last_active <= cutoff:
                yield info.session_id
            continue
        slept = list(services.archive.list(names.session_prefix(info)))
        if slept and contents.last_active(slept) <= cutoff:
            yield info


def _infos(services: Services, session_ids: Iterable[str]) -> Iterator[SessionInfo | str]:
    """Sessions in Redis as they are, and the ids of those that are not there."""
    ids = iter(session_ids)
    while page := list(islice(ids, _PAGE)):
        for session_id, info in zip(page, services.sessions.infos(page), strict=True):
            if isinstance(info, TorporError):
                raise info
            yield info or session_id


def _marked(services: Services, owner: str) -> Iterator[str]:
    """The owner's sessions in the archive."""
    markers = services.archive.list(names.all_owner_markers(owner))
    for session_id, _ in groupby(names.marked_session(owner, each.name, each.metadata) for each in markers):
        if session_id is not None:
            yield session_id


def _archived(services: Services, cutoff: datetime | None) -> Iterator[str]:
    for spread in names.SPREADS:
        for folder, group in groupby(services.archive.list(spread), key=lambda stored: names.folder_of(stored.name)):
            objects = list(group)
            session_id = names.stored_session(folder, objects[0].metadata)
            if session_id is not None and (cutoff is None or contents.last_active(objects) <= cutoff):
                yield session_id
