"""Legal holds: in Redis, where they refuse a clear or a purge, and on the objects in the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from torpor.history.protocol import HoldOutcome, SessionPurged
from torpor.worker.archive import contents
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ObjectNotFound

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Held:
    """What a hold was set on, or released from."""

    sessions: int
    objects: int


def hold_session(services: Services, session_id: str, reason: str | None) -> Held | None:
    """Put a session under a legal hold, or release its own with None; None where there was none to release.

    Repeatable: run again, it finishes the objects. What is being uploaded meanwhile is seen to by the worker. Raises
    InvalidReason, and SessionPurged.
    """
    sessions = services.sessions
    outcome = sessions.release_hold(session_id) if reason is None else sessions.hold(session_id, reason)
    if outcome is HoldOutcome.PURGED:
        raise SessionPurged(f"session {session_id!r} was purged: nothing of it is left to hold")
    if outcome is HoldOutcome.NONE:
        return None
    return Held(1, see_to(services, session_id))


def hold_owner(
    services: Services, owner: str, reason: str | None, told: Callable[[Held], None] = lambda _: None
) -> Held | None:
    """Put an owner under a legal hold, or release it with None; None where there was none to release.

    It counts for the sessions that the owner has and for those that come. Repeatable: run again, it finishes the
    objects, also those of a release. Raises InvalidReason.
    """
    known = services.sessions.hold_owner(owner, reason)
    done = Held(0, 0)
    ids = catalog.owned(services, owner)
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while batch := list(dict.fromkeys(islice(ids, _BATCH))):
            services.sessions.note_owner_holds(batch)
            objects = sum(pool.map(lambda session_id: see_to(services, session_id), batch))
            done = Held(done.sessions + len(batch), done.objects + objects)
            told(done)
    return done if known or done.objects else None


def see_to(services: Services, session_id: str) -> int:
    """Have a session's objects carry a temporary hold as long as the session or an owner of it is under a legal hold.

    What is older than its floor is being erased and left to that. Returns how many objects were changed. Repeatable.
    """
    found = contents.look(services.archive, session_id)
    info = services.sessions.info(session_id)
    # A clear that was accepted before the hold may not have come to the archive yet.
    floor = max(found.floor, (info.floor or 0) if info else 0)
    segments = [segment.stored for segment in found.segments if segment.name.epoch >= floor]
    known = {info.owner if info else None, *(stored.metadata.get("owner") for stored in segments)}
    owners = [owner for owner in known if owner is not None]
    marked = [each for owner in owners for each in contents.owner_markers(services.archive, owner, session_id)]
    # Else their retention could end before the hold does, and nobody would find the session to release it.
    markers = [stored for epoch, stored in marked if epoch >= floor]
    objects = [*markers, *segments]
    held = {stored.name: stored.held for stored in objects}
    changed = 0
    while True:
        is_held = _is_held(services, session_id, owners)
        for stored in [each for each in objects if held[each.name] != is_held]:
            held[stored.name] = is_held
            with suppress(ObjectNotFound):  # erased since
                services.archive.amend(stored, held=is_held)
                changed += 1
        # One that is set or released after this look is seen to by whoever does so, on what was amended here.
        if _is_held(services, session_id, owners) == is_held:
            return changed


def _is_held(services: Services, session_id: str, owners: Iterable[str]) -> bool:
    [hold] = services.sessions.find_holds([(session_id, sorted(owners))])
    return hold is not None
