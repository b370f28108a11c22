"""Finding and mending what should never be: sessions and index entries without each other, lost or damaged metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice

from history import IndexOutcome, Mending, SessionInfo, Status, TorporError
from worker import holdings
from worker.services import Services

_PAGE = 500


class Ailment(StrEnum):
    """What can be wrong with a session in Redis."""

    GHOST = "index entry without a session"
    UNINDEXED = "session without an index entry"
    METADATA_LOST = "messages without metadata"
    UNREADABLE = "keys or metadata that are not Torpor's"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and whether it is mended. `detail` says what stands in the way."""

    session_id: str
    ailment: Ailment
    mended: bool = False
    detail: str | None = None


def examine(services: Services, *, repair: bool = False) -> Iterator[Finding]:
    """Look at every session in Redis, indexed or not, and yield what is wrong, with `repair` after mending it.

    Walks the key space once (SCAN); applications and workers can go on meanwhile. Repeatable: what is mended is not
    found again. An unreadable session is never changed.
    """
    sessions = services.sessions
    ids = chain(sessions.sessions(), sessions.sessions(quarantined=True), sessions.stored_sessions())
    found: set[str] = set()
    while page := list(islice(ids, _PAGE)):
        fresh = list(dict.fromkeys(session for session in page if session not in found))
        for session_id, info in zip(fresh, sessions.infos(fresh), strict=True):
            finding = _examine(services, session_id, info, repair=repair)
            if finding:
                found.add(session_id)
                yield finding


def _examine(
    services: Services, session_id: str, info: SessionInfo | TorporError | None, *, repair: bool
) -> Finding | None:
    if isinstance(info, TorporError):
        return Finding(session_id, Ailment.UNREADABLE, detail=str(info))
    if info is None:
        return _reindex(services, Finding(session_id, Ailment.GHOST), repair=repair)
    if info.epoch == 0:
        return _mend(services, info, repair=repair)
    if info.due_at is None and info.status is not Status.QUARANTINED:
        return _reindex(services, Finding(session_id, Ailment.UNINDEXED), repair=repair)
    return None


def _reindex(services: Services, finding: Finding, *, repair: bool) -> Finding | None:
    if not repair:
        return finding
    if services.sessions.reindex(finding.session_id) is IndexOutcome.RIGHT:
        return None  # it came or went while we looked
    return Finding(finding.session_id, finding.ailment, mended=True)


def _mend(services: Services, info: SessionInfo, *, repair: bool) -> Finding:
    finding = Finding(info.session_id, Ailment.METADATA_LOST, detail=f"{info.message_count:,} messages")
    if not repair:
        return finding
    try:
        live = services.sessions.messages(info.session_id, touch=False)
        mended = services.sessions.mend(info.session_id, _compare(services, info.session_id, live))
    except TorporError as error:
        return Finding(info.session_id, Ailment.METADATA_LOST, detail=str(error))
    return Finding(info.session_id, Ailment.METADATA_LOST, mended=mended, detail=finding.detail)


def _compare(services: Services, session_id: str, live: list[bytes]) -> Mending:
    """What the archive has of these messages: they begin with all of it, with its newest epoch, or are new."""
    planned = holdings.plan(services.archive, holdings.look(services.archive, session_id))
    archived = list(holdings.read(services.archive, planned))
    if live[: len(archived)] == archived:
        return Mending(len(live), None, len(archived), len(archived), whole=True)
    newest = planned.slices[-1].segment.name.epoch
    older = sum(piece.take for piece in planned.slices if piece.segment.name.epoch != newest)
    own = archived[older:]
    if live[: len(own)] == own:
        return Mending(len(live), newest, 0, len(own), whole=False)
    return Mending(len(live), None, 0, 0, whole=False)
