"""Finding and mending what should never be: sessions and index entries without each other, lost or damaged metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from itertools import chain, islice

from torpor.history.protocol import (
    Adoption,
    IndexOutcome,
    PermanentError,
    RebuiltMetadata,
    SessionDamaged,
    SessionInfo,
    SessionStore,
    Status,
    TorporError,
    parse_json,
)
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services

_PAGE = 500
# An adoption takes milliseconds, that of a very large session seconds.
_ADOPTING = timedelta(minutes=1)


class Ailment(StrEnum):
    """What can be wrong with a session in Redis."""

    GHOST = "index entry without a session"
    UNINDEXED = "session without an index entry"
    METADATA_LOST = "messages without metadata"
    UNREADABLE = "keys or metadata that are not Torpor's"
    UNADOPTED = "adoption that was not finished"
    SHARD_UNREADABLE = "a shard's index or quarantine that is not Torpor's"


class Assumption(StrEnum):
    """What to take messages without metadata for that begin as the archive does, where nothing proves it."""

    WOKEN = "woken"  # the archived messages, restored
    NEW = "new"  # other messages, which follow the archived ones


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and whether it is mended. `detail` says what stands in the way.

    Of a whole shard there is no session id.
    """

    session_id: str | None
    ailment: Ailment
    mended: bool = False
    detail: str | None = None


def examine(services: Services, *, repair: bool = False, assume: Assumption | None = None) -> Iterator[Finding]:
    """Look at every session in Redis, indexed or not, and yield what is wrong, with `repair` after mending it.

    Walks the key space once (SCAN); applications and workers can go on meanwhile. Repeatable: what is mended is not
    found again. What is unreadable is never changed.
    """
    sessions = services.sessions
    walk = chain(_indexed(sessions), sessions.stored_sessions())
    found: set[str] = set()
    while page := list(islice(walk, _PAGE)):
        yield from (each for each in page if isinstance(each, Finding))
        fresh = list(dict.fromkeys(each for each in page if isinstance(each, str) and each not in found))
        for session_id, info in zip(fresh, sessions.infos(fresh), strict=True):
            finding = _examine(services, session_id, info, repair=repair, assume=assume)
            if finding:
                found.add(session_id)
                yield finding
    yield from _unadopted(services, repair=repair)


def _indexed(sessions: SessionStore) -> Iterator[str | Finding]:
    """The ids of all sessions that are due some time or in quarantine, and the shards that can't be walked."""
    for shard in range(sessions.deployment.keyspace.shards):
        for quarantined in (False, True):
            try:
                yield from sessions.sessions(quarantined=quarantined, shards=[shard])
            except PermanentError as error:
                yield Finding(None, Ailment.SHARD_UNREADABLE, detail=f"shard {shard}: {error}")


def _examine(
    services: Services,
    session_id: str,
    info: SessionInfo | TorporError | None,
    *,
    repair: bool,
    assume: Assumption | None,
) -> Finding | None:
    if isinstance(info, TorporError):
        return Finding(session_id, Ailment.UNREADABLE, detail=str(info))
    if info is None:
        return _reindex(services, Finding(session_id, Ailment.GHOST), repair=repair)
    if info.epoch == 0:
        return _mend(services, info, repair=repair, assume=assume)
    if info.due_at is None and info.status is not Status.QUARANTINED:
        return _reindex(services, Finding(session_id, Ailment.UNINDEXED), repair=repair)
    return None


def _reindex(services: Services, finding: Finding, *, repair: bool) -> Finding | None:
    if not repair:
        return finding
    if finding.session_id is None or services.sessions.reindex(finding.session_id) is IndexOutcome.RIGHT:
        return None  # it came or went while we looked
    return Finding(finding.session_id, finding.ailment, mended=True)


def _mend(services: Services, info: SessionInfo, *, repair: bool, assume: Assumption | None) -> Finding:
    finding = Finding(info.session_id, Ailment.METADATA_LOST, detail=f"{info.message_count:,} messages")
    if not repair:
        return finding
    try:
        live = services.sessions.messages(info.session_id, touch=False)
        mended = services.sessions.rebuild_metadata(info.session_id, _compare(services, info.session_id, live, assume))
    except TorporError as error:
        return Finding(info.session_id, Ailment.METADATA_LOST, detail=str(error))
    return Finding(info.session_id, Ailment.METADATA_LOST, mended=mended, detail=finding.detail)


def _compare(services: Services, session_id: str, live: list[bytes], assume: Assumption | None) -> RebuiltMetadata:
    """What the archive has of these messages: they begin with all of it, with its newest epoch, or are new.

    Raises SessionDamaged where they begin as the archive does and that may be chance.
    """
    planned = contents.plan(services.archive, contents.look(services.archive, session_id))
    archived = [*chain.from_iterable(contents.read(services.archive, planned))]
    new = RebuiltMetadata(len(live), None, 0, 0, complete=not archived)
    if not archived or assume is Assumption.NEW:
        return new
    newest = planned.slices[-1].segment.name.epoch
    own = archived[sum(piece.take for piece in planned.slices if piece.segment.name.epoch != newest) :]
    if live[: len(archived)] == archived:
        same, mending = archived, RebuiltMetadata(len(live), None, len(archived), len(archived), complete=True)
    elif own and live[: len(own)] == own:
        same, mending = own, RebuiltMetadata(len(live), newest, 0, len(own), complete=False)
    else:
        return new
    if assume is None and not any(map(_has_id, same)):
        raise SessionDamaged(
            f"its first {len(same):,} messages are equal to archived ones and have no ids, so that it may be chance: "
            "if they were restored, --assume woken; if they were written after the archived ones, --assume new"
        )
    return mending


def _unadopted(services: Services, *, repair: bool) -> Iterator[Finding]:
    """Adoptions at which nobody seems to be any more."""
    adoptions = services.sessions.adoptions()
    latest = services.sessions.now() - _ADOPTING if adoptions else None
    for adoption in adoptions:
        if latest and adoption.since < latest:
            yield _finish(services, adoption, repair=repair)


def _finish(services: Services, adoption: Adoption, *, repair: bool) -> Finding:
    finding = Finding(adoption.session_id, Ailment.UNADOPTED, detail=f"the key {adoption.key!r}")
    if not repair:
        return finding
    try:
        services.sessions.finish_adoption(adoption)
    except TorporError as error:
        return replace(finding, detail=str(error))
    return replace(finding, mended=True)


def _has_id(element: bytes) -> bool:
    """Has the message an id of its own, which no other message has?"""
    try:
        return bool(parse_json(element)["data"]["id"])
    except (ValueError, TypeError, KeyError):
        return False
