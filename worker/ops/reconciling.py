"""Reconciling: a session in a Redis that is behind its archive becomes what Redis and the archive have together.

What both have goes from Redis. What only Redis has, because it was written since, stays there in a new epoch, as if it
had been written while the session slept. So the next wake puts both together: nothing is lost, nothing is doubled, and
the order is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import chain

from torpor.history.protocol import ANY_OWNER, OwnerMismatch, PermanentError, RejoinOutcome, SessionInfo, TransientError
from torpor.worker.archive import contents, names, transcript
from torpor.worker.archive.contents import Contents
from torpor.worker.archive.names import FloorName
from torpor.worker.archive.stores import StoredObject
from torpor.worker.archive.transcript import Plan
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.retention import expiry

_TRIES = 5


class ReconcileOutcome(StrEnum):
    """What became of a session in Redis."""

    ASLEEP = "asleep"  # the archive has all that Redis had, and more
    JOINED = "joined"  # Redis keeps what was written since, which comes after the archived part
    EMPTIED = "emptied"  # it was cleared or purged since, so what Redis had must not come back
    PURGED = "purged"  # a tombstone stands in its place again
    BUSY = "busy"  # a worker has leased it, or it is being woken: try again later
    UNCLEAR = "unclear"  # nobody can tell what should become of it: it stays as it is


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What becomes of a session: Redis drops its first `dropped` messages and keeps the last `kept`."""

    session_id: str
    outcome: ReconcileOutcome
    dropped: int = 0
    kept: int = 0
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """A live list and the archive's transcript, counted.

    The first `restored` of the `live` messages came from epochs before the live one, of which the archive has `older`
    messages. `newer` counts the archived messages of the live epoch and of later ones, and `later` says if there is a
    later one. The live list and the archive have the first `common` messages in common; without restored messages,
    only the newer ones are compared.
    """

    live: int
    restored: int
    older: int
    newer: int
    common: int
    later: bool


def decide(counts: Counts) -> tuple[ReconcileOutcome, int] | None:
    """What becomes of a session, and how many messages Redis drops; None if Redis lacks nothing of the archive."""
    if counts.restored and (counts.older != counts.restored or counts.common < counts.restored):
        return ReconcileOutcome.UNCLEAR, 0
    if counts.common - counts.restored == counts.newer and not counts.later:
        return None
    return (ReconcileOutcome.ASLEEP if counts.common == counts.live else ReconcileOutcome.JOINED), counts.common


def reconcile(
    services: Services, stored: Sequence[tuple[str, list[StoredObject]]], *, dry_run: bool
) -> Iterator[Reconciled]:
    """Reconcile those of these archived sessions that are in Redis; in a `dry_run`, say what would be done.

    If the archive has nothing of a session that Redis lacks, the session gives no result. Repeatable.
    """
    infos = services.sessions.infos([session_id for session_id, _ in stored])
    for (session_id, objects), info in zip(stored, infos, strict=True):
        if isinstance(info, SessionInfo) and _may_lack(info, contents.sort(session_id, objects)):
            done = _reconcile(services, info, dry_run=dry_run)
            if done is not None:
                yield done


def drop(services: Services, info: SessionInfo, done: Reconciled) -> Reconciled | None:
    """Drop the first messages of a session, as many as `done` says; None if the session has changed."""
    outcome = services.sessions.rejoin(info, done.dropped)
    reach(Failpoint.SESSION_REJOINED)
    if outcome is RejoinOutcome.BUSY:
        return Reconciled(
            info.session_id, ReconcileOutcome.BUSY, 0, info.message_count, "it is leased, or is being woken"
        )
    return done if outcome is RejoinOutcome.REJOINED else None


def _reconcile(services: Services, info: SessionInfo, *, dry_run: bool) -> Reconciled | None:
    for _ in range(_TRIES):
        decided = _decided(services, info)
        if decided is None:
            return None
        is_clear = decided.outcome is not ReconcileOutcome.UNCLEAR
        if not dry_run and is_clear and (done := drop(services, info, decided)) is not None:
            return done
        now = services.sessions.info(info.session_id, owner=ANY_OWNER)
        if now is None or not now.epoch:
            return None
        if _state(now) == _state(info):
            return decided
        info = now
    raise TransientError(f"session {info.session_id!r} keeps changing; try again")


def _decided(services: Services, info: SessionInfo) -> Reconciled | None:
    try:
        return _compared(services, info)
    except PermanentError as error:
        return Reconciled(info.session_id, ReconcileOutcome.UNCLEAR, 0, info.message_count, str(error))


def _state(info: SessionInfo) -> tuple[int, int, int]:
    return info.epoch, info.restored_count, info.message_count


def _may_lack(info: SessionInfo, found: Contents) -> bool:
    """True if the archive may have something that Redis lacks, by the names of the objects."""
    if info.purge is not None or not info.epoch:
        return False
    known = info.archived_count - info.restored_count
    return found.floor > info.epoch or any(
        each.name.epoch > info.epoch or (each.name.epoch == info.epoch and each.name.stop > known)
        for each in found.segments
    )


def _compared(services: Services, info: SessionInfo) -> Reconciled | None:
    objects = list(services.archive.list(names.session_prefix(info.session_id)))
    found = expiry.unexpired(contents.sort(info.session_id, objects), services.sessions.redis_time)
    if not _may_lack(info, found):
        return None
    if found.floor > info.epoch:
        return _cleared(info, found, objects)
    limit = services.settings.max_message_bytes
    planned = transcript.plan(services.archive, found, max_message_bytes=limit)
    transcript.check_owner(planned)
    if info.owner and planned.origin.owner not in (None, info.owner):
        raise OwnerMismatch(f"the archive has session {info.session_id!r} for another owner than Redis")
    decided = decide(_count(services, info, planned, later=found.segments[-1].name.epoch > info.epoch))
    if decided is None:
        return None
    outcome, dropped = decided
    detail = "the archive begins with other messages" if outcome is ReconcileOutcome.UNCLEAR else None
    return Reconciled(info.session_id, outcome, dropped, info.message_count - dropped, detail)


def _count(services: Services, info: SessionInfo, planned: Plan, *, later: bool) -> Counts:
    newer = [piece for piece in planned.slices if piece.segment.name.epoch >= info.epoch]
    count = sum(piece.take for piece in newer)
    compared = planned if info.restored_count else replace(planned, slices=newer)
    return Counts(
        live=info.message_count,
        restored=info.restored_count,
        older=planned.count - count,
        newer=count,
        common=_common(services, info, compared),
        later=later,
    )


def _common(services: Services, info: SessionInfo, planned: Plan) -> int:
    """How many messages Redis and the archive have in common, from the first on. Reads a page at a time.

    Reads the archive to its end, because only the end of a segment tells whether it is damaged.
    """
    pages = services.sessions.pages(info.session_id, 0, info.message_count, owner=ANY_OWNER)
    live = chain.from_iterable(page.messages for page in pages)
    common, same = 0, True
    for element in chain.from_iterable(transcript.read(services.archive, planned)):
        same = same and next(live, None) == element
        common += same
    return common


def _cleared(info: SessionInfo, found: Contents, objects: Sequence[StoredObject]) -> Reconciled:
    """What becomes of a session whose archive has a floor above the live epoch: what is older must not come back.

    A pop or a purge of the archive alone leaves a floor too, and messages in Redis. Those are in the archive if the
    session has slept since; else Redis has the only copy of most of them.
    """
    count = info.message_count
    if _milliseconds(info.last_written) >= found.floor // 1000:
        why = "it was cleared, and written to since: export what it has if that is wanted, then purge it"
        return Reconciled(info.session_id, ReconcileOutcome.UNCLEAR, 0, count, why)
    if found.segments or _kept_none(found, objects):
        return Reconciled(info.session_id, ReconcileOutcome.EMPTIED, count)
    why = "it was cleared, or a message was taken back: export what it has if that is wanted, then purge it"
    return Reconciled(info.session_id, ReconcileOutcome.UNCLEAR, 0, count, why)


def _kept_none(found: Contents, objects: Sequence[StoredObject]) -> bool:
    """True if Redis had no message of the session when the floor was written."""
    marker = FloorName(found.floor)
    return any(
        each.metadata.get("kept") == "0" for each in objects if names.parse(found.session_id, each.name) == marker
    )


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
