"""Legal holds: in Redis, where they refuse a clear or a purge, and on the objects in the archive."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from torpor.history.protocol import (
    ANY_OWNER,
    HoldOutcome,
    HoldRecords,
    SessionInfo,
    SessionPurged,
    StandingHold,
    TorporError,
    TransientError,
)
from torpor.worker.archive import contents
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ObjectNotFound
from torpor.worker.retention import hold_notes, lost_holds

_BATCH = 100


@dataclass(frozen=True, slots=True)
class HoldResult:
    """How many sessions a hold was set on or released from, and how many of their objects were changed."""

    sessions: int
    objects: int


def hold_session(services: Services, session_id: str, reason: str | None, by: str = "") -> HoldResult | None:
    """Put a session under a legal hold, or release it with None as the reason; None if there was none to release.

    `by` says who sets it. A hold that Redis has forgotten, and that the objects note, is released too. Repeatable: a
    second call finishes the objects. A worker that uploads meanwhile applies the hold to its objects. Raises
    InvalidReason and SessionPurged.
    """
    outcome = _set(services, session_id, reason, by)
    if outcome is HoldOutcome.NONE and lost_holds.put_own_back(services, session_id):
        outcome = _set(services, session_id, reason, by)
    if outcome is HoldOutcome.PURGED:
        raise SessionPurged(f"session {session_id!r} was purged: nothing of it is left to hold")
    if outcome is HoldOutcome.NONE:
        return None
    return HoldResult(1, apply_hold(services, session_id))


def hold_owner(
    services: Services,
    owner: str,
    reason: str | None,
    progress: Callable[[HoldResult], None] = lambda _: None,
    *,
    by: str = "",
) -> HoldResult | None:
    """Put an owner under a legal hold, or release it with None as the reason; None if there was none to release.

    `by` says who sets it. The hold is for the owner's sessions of now and of later. A hold that Redis has forgotten,
    and that the objects note, is released too. Repeatable: a second call finishes the objects, also those of a release.
    `progress` gets the counts so far. Raises InvalidReason.
    """
    known = services.sessions.hold_owner(owner, reason, by)
    if not known and lost_holds.put_owners_back(services, owner):
        known = services.sessions.hold_owner(owner, reason, by)
    done = apply_holds(services, _noted(services, catalog.owned(services, owner)), progress)
    return done if known or done.objects else None


def apply_holds(
    services: Services, session_ids: Iterable[str], progress: Callable[[HoldResult], None] = lambda _: None
) -> HoldResult:
    """As `apply_hold` for many sessions; `progress` gets the counts so far."""
    ids, done = iter(session_ids), HoldResult(0, 0)
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while batch := list(islice(ids, _BATCH)):
            objects = sum(pool.map(lambda session_id: apply_hold(services, session_id), batch))
            done = HoldResult(done.sessions + len(batch), done.objects + objects)
            progress(done)
    return done


def _set(services: Services, session_id: str, reason: str | None, by: str) -> HoldOutcome:
    if reason is None:
        return services.sessions.release_hold(session_id, owner=ANY_OWNER)
    return services.sessions.hold(session_id, reason, owner=ANY_OWNER, by=by)


def apply_hold(services: Services, session_id: str) -> int:
    """Have a session's objects note the legal holds that they are under, with a temporary hold as long as there is one.

    A noted hold that Redis has forgotten stays. Leaves objects below the session's floor alone: they are being erased.
    Of a session whose metadata can't be read, only objects that are not held are changed, because nobody knows whose it
    is. Returns of how many objects the temporary hold was changed. Repeatable.
    """
    objects, owners, is_known = _holdable(services, session_id)
    now = {stored.name: (stored.held, hold_notes.notes_of(stored)) for stored in objects}
    changed = 0
    while True:
        records = records_of(services, session_id, owners)
        for stored in objects:
            was_held, notes = now[stored.name]
            noted = hold_notes.wanted(stored, notes, records)
            is_held = bool(noted) or (was_held and not notes and not hold_notes.is_released(stored, records))
            if (is_held, noted) == now[stored.name] or not (is_known or (is_held and not was_held)):
                continue
            now[stored.name] = is_held, noted
            with suppress(ObjectNotFound):  # erased since
                services.archive.amend(stored, held=is_held, entries=hold_notes.entries(noted))
                changed += is_held != was_held
        # Whoever sets or releases a hold after this look applies it to these objects too.
        if records_of(services, session_id, owners) == records:
            return changed


def records_of(services: Services, session_id: str, owners: Iterable[str]) -> HoldRecords:
    """What Redis knows of the legal holds of a session, its own and those of these owners."""
    [records] = services.sessions.hold_records([(session_id, sorted(owners))])
    return records


def of_sessions(services: Services, session_ids: Sequence[str]) -> list[StandingHold | None]:
    """The own legal hold of each session."""
    return [next(iter(holds), None) for holds in services.sessions.holds_of_each([(each, []) for each in session_ids])]


def described(services: Services, session: SessionInfo, metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of an object that is put for a session: it notes the legal holds that are in force."""
    if session.hold is None:
        return dict(metadata)
    records = records_of(services, session.session_id, [session.owner] if session.owner else [])
    return {**metadata, **hold_notes.in_force(records)}


def unheld(
    services: Services, stored: Sequence[tuple[str, Sequence[StoredObject]]], lost: Container[str] = ()
) -> list[str]:
    """Those of these sessions that are under a legal hold, and have a segment without the temporary hold.

    A copy of a bucket has no temporary holds. The holds of the sessions in `lost` are to be put back in Redis.
    """
    found = [contents.sort(session_id, objects) for session_id, objects in stored]
    suspects = [
        (each.session_id, sorted(each.owners))
        for each in found
        if not all(segment.stored.held for segment in each.segments)
    ]
    holds = services.sessions.find_holds(suspects)
    return [each for (each, _), hold in zip(suspects, holds, strict=True) if hold or each in lost]


def _noted(services: Services, session_ids: Iterator[str]) -> Iterator[str]:
    """The sessions, each once Redis has noted that the hold of its owner was changed."""
    while batch := list(dict.fromkeys(islice(session_ids, _BATCH))):
        services.sessions.note_owner_holds(batch)
        yield from batch


def _holdable(services: Services, session_id: str) -> tuple[list[StoredObject], list[str], bool]:
    """The objects that a hold of the session is for, and its owners; False if these are not all that it may have."""
    found = contents.look(services.archive, session_id)
    [info] = services.sessions.infos([session_id])
    if isinstance(info, TransientError):
        raise info
    is_known = not isinstance(info, TorporError)
    info = info if isinstance(info, SessionInfo) else None
    # The archive may not know yet of a clear that was accepted before the hold.
    floor = max(found.floor, (info.floor or 0) if info else 0)
    segments = [segment.stored for segment in found.segments if segment.name.epoch >= floor]
    known = {info.owner if info else None, *(stored.metadata.get("owner") for stored in segments)}
    owners = [owner for owner in known if owner is not None]
    marked = [each for owner in owners for each in contents.owner_markers(services.archive, owner, session_id)]
    # A marker that expired before the hold ends would leave nobody to find the session by, to release it.
    markers = [stored for epoch, stored in marked if epoch >= floor]
    return [*markers, *segments], owners, is_known
