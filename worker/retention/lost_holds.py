"""Lost holds: legal holds that objects of the archive note, and that Redis has forgotten.

Whoever makes a Redis and an archive belong together, or repairs one, finds them here, and puts them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from torpor.history.protocol import ANY_OWNER, HoldKind, HoldRecord, HoldRecords, PermanentError, SessionInfo
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.retention import hold_notes

REASON = "found on objects of the archive; the reason was lost"


@dataclass(frozen=True, slots=True)
class LostHold:
    """What Redis has forgotten of a session: its own legal hold if `own`, and those of these `owners`."""

    session_id: str
    own: bool
    owners: frozenset[str]


def find(services: Services, stored: Iterable[tuple[str, Sequence[StoredObject]]]) -> list[LostHold]:
    """The lost holds of sessions, each given with its objects. Asks Redis only about sessions that seem held."""
    found: list[LostHold] = []
    for session_id, objects, records in _held(services, stored):
        lost = {(kind, each.metadata.get("owner")) for each in objects for kind in hold_notes.forgotten(each, records)}
        if lost:
            named = [[owner] if owner else list(records.owners) for kind, owner in lost if kind is HoldKind.OWNER]
            owners = frozenset(chain.from_iterable(named))
            own = not owners or any(kind is HoldKind.SESSION for kind, _ in lost)
            found.append(LostHold(session_id, own, owners))
    return found


def put_back_before(services: Services, stored: Iterable[tuple[str, Sequence[StoredObject]]]) -> list[LostHold]:
    """The holds of these sessions that were lost and are there again: Redis does not know their reason."""
    found: list[LostHold] = []
    for session_id, _, records in _held(services, stored):
        own = _is_again(records.own)
        owners = frozenset(owner for owner, record in records.owners.items() if _is_again(record))
        if own or owners:
            found.append(LostHold(session_id, own, owners))
    return found


def put_back(services: Services, lost: Sequence[LostHold]) -> dict[str, PermanentError]:
    """Put sessions and owners under their lost holds again, except sessions that were purged. Repeatable.

    Returns the sessions that can't be read, whose own holds stay lost, each with its error.
    """
    refused: dict[str, PermanentError] = {}
    for owner in sorted({owner for each in lost for owner in each.owners}):
        services.sessions.hold_owner(owner, REASON)
    for each in lost:
        if each.own:
            try:
                services.sessions.hold(each.session_id, REASON, owner=ANY_OWNER)
            except PermanentError as error:
                refused[each.session_id] = error
    services.sessions.note_owner_holds(sorted(each.session_id for each in lost if each.owners))
    return refused


def put_all_back(services: Services, lost: Sequence[LostHold]) -> None:
    """As `put_back`; raises the error of a session that can't be read, when the others are under their holds."""
    for error in put_back(services, lost).values():
        raise error


def put_own_back(services: Services, session_id: str) -> bool:
    """Put a session under its own lost hold again; False if it has none."""
    lost = [each for each in _of_session(services, session_id) if each.own]
    put_all_back(services, [replace(each, owners=frozenset()) for each in lost])
    return bool(lost)


def put_owners_back(services: Services, owner: str) -> bool:
    """Put an owner under a lost hold again; False if no session of the owner has one."""
    owned = catalog.owned(services, owner)
    is_lost = any(owner in each.owners for session_id in owned for each in _of_session(services, session_id))
    return is_lost and services.sessions.hold_owner(owner, REASON)


def _of_session(services: Services, session_id: str) -> list[LostHold]:
    return find(services, [(session_id, list(services.archive.list(names.session_prefix(session_id))))])


def _held(
    services: Services, stored: Iterable[tuple[str, Sequence[StoredObject]]]
) -> Iterator[tuple[str, Sequence[StoredObject], HoldRecords]]:
    """The sessions whose objects are held or note legal holds, with what Redis knows of these holds."""
    held = {
        session_id: objects
        for session_id, objects in stored
        if any(each.held or hold_notes.notes_of(each) for each in objects)
    }
    infos = services.sessions.infos(list(held))
    live = [info.owner if isinstance(info, SessionInfo) else None for info in infos]
    owners = [_owners(objects, owner) for objects, owner in zip(held.values(), live, strict=True)]
    records = services.sessions.hold_records(list(zip(held, owners, strict=True)))
    return zip(held, held.values(), records, strict=True)


def _is_again(record: HoldRecord) -> bool:
    return record.hold is not None and record.hold.reason == REASON


def _owners(objects: Sequence[StoredObject], live: str | None) -> list[str]:
    """The owners of a session: those whom its objects name, and the one that it has in Redis."""
    named = {live, *(stored.metadata.get("owner") for stored in objects)}
    return sorted(owner for owner in named if owner is not None)
