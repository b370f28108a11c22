"""Doctor: finds, and repairs, what should never be in Redis, such as a session that the due index does not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from itertools import chain, islice

from torpor.history.protocol import (
    ANY_OWNER,
    Adoption,
    IndexOutcome,
    MessageCorrupt,
    PermanentError,
    RebuiltMetadata,
    SessionDamaged,
    SessionInfo,
    SessionStore,
    Status,
    TorporError,
    is_readable,
    is_record,
    parse_json,
)
from torpor.history.records.record import from_element
from torpor.worker.archive import contents, parts, transcript
from torpor.worker.archive.spool import Spool
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.ops import archive_examination, kind_counts
from torpor.worker.ops.archive_examination import unexamined
from torpor.worker.ops.finding import Ailment, Finding
from torpor.worker.ops.status_warnings import unavailable

_PAGE = 500
# How many positions of corrupt messages a finding names.
_NAMED = 20
# An adoption takes milliseconds, or seconds if the session is very large. An older one was interrupted.
_ADOPTING = timedelta(minutes=1)


_AILMENTS = {IndexOutcome.ADDED: Ailment.UNINDEXED, IndexOutcome.DROPPED: Ailment.GHOST}


class Assumption(StrEnum):
    """What to assume of messages without metadata that are equal to archived ones, but may be so by chance."""

    WOKEN = "woken"  # they are the archived messages, restored
    NEW = "new"  # they are other messages, written after the archived ones


def examine(
    services: Services,
    *,
    repair: bool = False,
    assume: Assumption | None = None,
    messages: bool = True,
    archive: bool = True,
    unreachable: str | None = None,
) -> Iterator[Finding]:
    """Examine all sessions in Redis, indexed or not, and yield what is wrong; with `repair`, repair it first.

    With `messages`, reads every message to find corrupt ones, which nothing can repair. Walks the key space once (SCAN)
    while applications and workers go on. Repeatable: what was repaired is not found again. Unreadable keys are never
    changed. With `archive`, lists the archive, and yields the objects whose metadata is damaged, which stay. If the
    archive is `unreachable`, which says why, or fails for the workers, a finding says that it was not examined.

    Raises ArchiveUnavailable if a repair needs the archive, and it fails.
    """
    sessions = services.sessions
    for wrong in sessions.keys_of_other_types():
        yield Finding(None, Ailment.KEY_OF_OTHER_TYPE, detail=f"{wrong}: delete or rename it")
    if outage := _outage(sessions):
        yield Finding(None, Ailment.ARCHIVE_UNAVAILABLE, detail=outage)
    walk = chain(_indexed(sessions), sessions.stored_sessions())
    found: set[str] = set()
    miscounted = 0
    while page := list(islice(walk, _PAGE)):
        yield from (each for each in page if isinstance(each, Finding))
        fresh = list(dict.fromkeys(each for each in page if isinstance(each, str) and each not in found))
        for finding in examine_sessions(services, fresh, repair=repair, assume=assume, messages=messages):
            found.add(finding.session_id or "")
            miscounted += not finding.repaired and finding.ailment is not Ailment.CORRUPT
            yield finding
    yield from unadopted(services, repair=repair)
    if not miscounted:
        counts = list(kind_counts.examine(sessions, repair=repair))
        yield from [] if found else counts  # else the sessions that were found have made them wrong
    if archive:
        why = unreachable or outage
        yield from [unexamined("nothing", why)] if why else archive_examination.examine(services, repair=repair)


def examine_sessions(
    services: Services, session_ids: Sequence[str], *, repair: bool, assume: Assumption | None, messages: bool
) -> Iterator[Finding]:
    """As `examine`, of these sessions alone: what Redis has of them."""
    for session_id, info in zip(session_ids, services.sessions.infos(session_ids), strict=True):
        finding = _examine(services, session_id, info, repair=repair, assume=assume)
        if not finding and messages and isinstance(info, SessionInfo):
            finding = _read(services, info)
        if finding:
            yield finding


def _outage(sessions: SessionStore) -> str | None:
    with suppress(PermanentError):  # the key is of another type, which is a finding
        return unavailable(sessions.archive_health())
    return None


def _indexed(sessions: SessionStore) -> Iterator[str | Finding]:
    """The ids of all sessions in the due index or in quarantine, and a finding for each shard that can't be read."""
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
        return _reindex(services, session_id, repair=repair)
    if info.epoch == 0:
        return _rebuild(services, info, repair=repair, assume=assume)
    if info.due_at is None and info.status is not Status.QUARANTINED:
        return _reindex(services, session_id, repair=repair)
    return None


def _read(services: Services, info: SessionInfo) -> Finding | None:
    """Read the messages of a session in Redis, and name those that no framework can read."""
    try:
        corrupt = [
            position
            for page in (services.sessions.pages(info.session_id, owner=ANY_OWNER) if info.message_count else ())
            for position, element in enumerate(page.messages, page.start)
            if not _is_readable(element)
        ]
    except PermanentError as error:
        return Finding(info.session_id, Ailment.UNREADABLE, detail=str(error))
    if not corrupt:
        return None
    named = ", ".join(map(str, corrupt[:_NAMED])) + (", ..." if len(corrupt) > _NAMED else "")
    return Finding(info.session_id, Ailment.CORRUPT, detail=f"message {named}; {len(corrupt)} of {info.message_count}")


def _is_readable(element: bytes) -> bool:
    """True if LangChain, the Agents SDK or LangGraph can read an element."""
    if not is_record(element):
        return is_readable(element)
    try:
        from_element(element)
    except MessageCorrupt:
        return False
    return True


def _reindex(services: Services, session_id: str, *, repair: bool) -> Finding | None:
    """Compare a session with its index entry. It is right if the session is known absent, or came or went meanwhile."""
    ailment = _AILMENTS.get(services.sessions.reindex(session_id, repair=repair))
    return Finding(session_id, ailment, repaired=repair) if ailment else None


def _rebuild(services: Services, info: SessionInfo, *, repair: bool, assume: Assumption | None) -> Finding:
    finding = Finding(info.session_id, Ailment.METADATA_LOST, detail=f"{info.message_count:,} messages")
    if not repair:
        return finding
    try:
        live = services.sessions.messages(info.session_id, owner=ANY_OWNER, touch=False)
        rebuilt = _compare(services, info.session_id, live, assume)
        return replace(finding, repaired=services.sessions.rebuild_metadata(info.session_id, rebuilt))
    except ArchiveUnavailable:
        raise  # the next session would wait as long
    except TorporError as error:
        return replace(finding, detail=str(error))


def _compare(services: Services, session_id: str, live: list[bytes], assume: Assumption | None) -> RebuiltMetadata:
    """Compare live messages with the archive: they begin with all of it, or with its newest epoch, or are new.

    Raises SessionDamaged if they may begin so by chance and `assume` is not given.
    """
    limit = services.settings.max_message_bytes
    found = parts.of_first_owner(contents.look(services.archive, session_id))
    planned = transcript.plan(services.archive, found, max_message_bytes=limit)
    new = RebuiltMetadata(len(live), None, 0, 0, complete=not planned.count)
    if not planned.count or assume is Assumption.NEW:
        return new
    newest = planned.slices[-1].segment.name.epoch
    older = sum(piece.take for piece in planned.slices if piece.segment.name.epoch != newest)
    with Spool() as archived:
        for page in transcript.read(services.archive, planned):
            archived.add(page)
        if _begins(live, archived):
            same, rebuilt = len(archived), RebuiltMetadata(len(live), None, len(archived), len(archived), complete=True)
        elif (own := len(archived) - older) and _begins(live, islice(archived, older, None)):
            same, rebuilt = own, RebuiltMetadata(len(live), newest, 0, own, complete=False)
        else:
            return new
    if assume is None and not any(map(_has_id, live[:same])):
        raise SessionDamaged(
            f"its first {same:,} messages are equal to archived ones and have no ids, so that it may be chance: "
            "if they were restored, --assume woken; if they were written after the archived ones, --assume new"
        )
    return rebuilt


def _begins(live: list[bytes], archived: Iterable[bytes]) -> bool:
    """True if the live messages begin with all of the archived ones."""
    there = iter(live)
    return all(element == next(there, None) for element in archived)


def unadopted(services: Services, *, repair: bool) -> Iterator[Finding]:
    """Adoptions that were interrupted, and those whose records are damaged, which stay."""
    damaged: list[Finding] = []
    adoptions = services.sessions.adoptions(
        lambda session_id, error: damaged.append(Finding(session_id, Ailment.UNADOPTED, detail=str(error)))
    )
    yield from damaged
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
    return replace(finding, repaired=True)


def _has_id(element: bytes) -> bool:
    """True if the message has an id, which no other message has."""
    try:
        return bool(parse_json(element)["data"]["id"])
    except (ValueError, TypeError, KeyError):
        return False
