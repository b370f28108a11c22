"""Hold notes: the metadata of an object says since when it has been under a legal hold, and whose hold that is.

Redis alone says whether a hold stands. But Redis forgets a hold if a failover loses its last writes, or if it is
restored from a backup. So a note counts until Redis has a release that is not older than the noted hold. If Redis has
the noted hold neither in force nor released, it has forgotten it. Stores that ignore holds keep the notes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from torpor.history.protocol import HoldKind, HoldRecord, HoldRecords, LegalHold
from torpor.worker.archive.stores import HOLD_NOTES, StoredObject

# Since when (ms) an object has been under a legal hold, by whose hold it is.
Notes = Mapping[HoldKind, int]

_ENTRIES = dict(zip((HoldKind.SESSION, HoldKind.OWNER), HOLD_NOTES, strict=True))
# A moment that can't be read is that of a hold which no release is newer than.
_UNREADABLE = 10**15


def notes_of(stored: StoredObject) -> dict[HoldKind, int]:
    """The legal holds that an object notes."""
    noted = {kind: stored.metadata.get(entry) for kind, entry in _ENTRIES.items()}
    # An emulator of Cloud Storage makes an entry empty in place of removing it.
    return {kind: _moment(since) for kind, since in noted.items() if since}


def entries(notes: Notes) -> dict[str, str | None]:
    """The entries of metadata that note these holds, and no others."""
    return {entry: str(notes[kind]) if kind in notes else None for kind, entry in _ENTRIES.items()}


def wanted(stored: StoredObject, notes: Notes, records: HoldRecords) -> dict[HoldKind, int]:
    """What an object with these notes should note: the holds in force, and those that Redis has forgotten."""
    found: dict[HoldKind, int] = {}
    for kind, record in _by_kind(stored.metadata.get("owner"), records).items():
        since = notes.get(kind)
        counts = since is not None and not _is_released(record, since)
        # A hold that is in force mends a note that can't be read, which no release would take away.
        if record.hold is not None and (not counts or since == _UNREADABLE):
            found[kind] = _since(record.hold, record)
        elif since is not None and counts:
            found[kind] = since
    return found


def in_force(records: HoldRecords) -> dict[str, str]:
    """The entries of an object that is put while these holds are in force."""
    found = _by_kind(None, records)
    return {_ENTRIES[kind]: str(_since(record.hold, record)) for kind, record in found.items() if record.hold}


def forgotten(stored: StoredObject, records: HoldRecords) -> set[HoldKind]:
    """The holds that an object notes, and that Redis has neither in force nor released."""
    notes = notes_of(stored)
    return {
        kind
        for kind, record in _by_kind(stored.metadata.get("owner"), records).items()
        if kind in notes and record.hold is None and not _is_released(record, notes[kind])
    }


def is_released(stored: StoredObject, records: HoldRecords) -> bool:
    """True if Redis knows a release of each hold that an object notes.

    An object that notes none was held by an older version, or by somebody else: true if Redis knows a release, and no
    hold is in force.
    """
    notes, found = notes_of(stored), _by_kind(stored.metadata.get("owner"), records)
    if notes:
        return all(_is_released(found[kind], since) for kind, since in notes.items())
    return any(each.released for each in found.values()) and not any(each.hold for each in found.values())


def _by_kind(owner: str | None, records: HoldRecords) -> dict[HoldKind, HoldRecord]:
    """What Redis knows of the holds of an owner's object. If it names no owner, all owners of the session count."""
    named = records.owners.get(owner) if owner is not None else None
    owners = [named] if named else list(records.owners.values())
    return {
        HoldKind.SESSION: records.own,
        HoldKind.OWNER: HoldRecord(
            next((each.hold for each in owners if each.hold), None),
            max((each.released for each in owners if each.released), default=None),
        ),
    }


def _since(hold: LegalHold, record: HoldRecord) -> int:
    """Since when (ms) a hold is noted that is in force. A damaged one is noted as the first after the last release."""
    if hold.since is not None:
        return _ms(hold.since)
    return 0 if record.released is None else _ms(record.released) + 1


def _is_released(record: HoldRecord, since: int) -> bool:
    return record.released is not None and _ms(record.released) >= since


def _moment(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,15}", text) else _UNREADABLE


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
