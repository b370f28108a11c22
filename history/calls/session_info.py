"""Turn the replies of the scripts info and snapshot into a SessionInfo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from torpor.history.calls.call import Deployment, to_moment, to_moment_if_readable, to_moment_or_none, to_span
from torpor.history.errors import MessageCorrupt
from torpor.history.expiry import Expiry
from torpor.history.fields import by_name
from torpor.history.session import LegalHold, SessionInfo, SessionKind, Status

# Milliseconds since 1970, as the objects in the archive note them, too.
_MOMENT = re.compile(rb"\d{1,15}")
# The fraction of a due score that is ahead -> the state of the session.
_OF_FRACTIONS = {0.5: Status.IN_WORK, 0.25: Status.POSTPONED}


def to_session_info(deployment: Deployment, session_id: str, reply: Any) -> SessionInfo | None:
    """The session in a reply {now ms, length, score, hold, kind, stored field, value, ...}; None if that is empty."""
    if not reply:
        return None
    now, length, score, hold, kind, *pairs = reply
    fields = by_name(pairs)
    try:
        return _to_session_info(
            deployment,
            session_id,
            fields,
            now_ms=int(now),
            length=int(length),
            score=score,
            hold=to_hold(hold, session_id, may_be_owners="owner" in fields),
            kind=SessionKind(kind.decode()) if kind else None,
        )
    except (ValueError, OverflowError, OSError) as exc:
        raise MessageCorrupt(f"the metadata of session {session_id!r} is damaged: {exc}") from exc


def _to_session_info(
    deployment: Deployment,
    session_id: str,
    fields: Mapping[str, bytes],
    *,
    now_ms: int,
    length: int,
    score: bytes,
    hold: LegalHold | None,
    kind: SessionKind | None,
) -> SessionInfo:
    epoch = int(fields.get("epoch", 0))
    born_ms = epoch // 1000
    active_ms = int(fields.get("last_active", born_ms))
    recheck_ms = int(fields.get("recheck_at", 0))
    expiry = Expiry(*(to_span(fields.get(name)) for name in ("idle", "max_age", "retention")))
    status = _status(fields, float(score or 0), now_ms)
    return SessionInfo(
        session_id=session_id,
        status=status,
        epoch=epoch,
        created=to_moment(int(fields.get("created", born_ms))),
        last_active=to_moment(active_ms),
        last_written=to_moment(int(fields.get("last_written", active_ms))),
        due_at=to_moment_or_none(score),
        idle_timeout=expiry.idle or deployment.idle,
        max_age=expiry.max_age or deployment.max_age,
        expiry=expiry,
        owner=fields["owner"].decode() if "owner" in fields else None,
        message_count=length,
        restored_count=int(fields.get("restored_count", 0)),
        archived_count=int(fields.get("archived_count", 0)),
        complete="complete" in fields,
        floor=int(fields["floor"]) if "floor" in fields else None,
        attempts=int(fields.get("attempts", 0)),
        error=fields["error"].decode(errors="replace") if "error" in fields else None,
        hold=hold,
        kind=kind,
        hold_pending="hold_pending" in fields,
        purge=fields["purge"].decode(errors="replace") if fields.get("state") == b"purged" else None,
        removed=int(fields.get("removed", 0)),
        recheck_at=to_moment_or_none(recheck_ms) if recheck_ms > now_ms else None,
        waiting_since=to_moment_or_none(_waiting_since(fields, status, score)),
        owner_assigned="owner_assigned" in fields,
        unproven_caller=fields.get("unproven_caller"),
    )


def to_hold(value: bytes, session_id: str, *, may_be_owners: bool = True) -> LegalHold | None:
    """The legal hold that keeps a session, from a reply, `since (ms):reason`; None if that is empty."""
    return hold_of(value, f"session {session_id!r}{', or of its owner,' if may_be_owners else ''}")


def hold_of(value: bytes, whose: str) -> LegalHold | None:
    """A legal hold, `since (ms):reason`, of which a damaged one says `whose` it is; None if the value is empty."""
    if not value:
        return None
    since, reason = parts_of_hold(value)
    return LegalHold(reason, since, value, None if since else damage_of_hold(whose))


def parts_of_hold(value: bytes) -> tuple[datetime | None, str]:
    """Since when a legal hold stands, and its reason; None for the moment if the record is damaged."""
    since, _, reason = value.partition(b":")
    return to_moment_if_readable(since) if _MOMENT.fullmatch(since) else None, reason.decode(errors="replace")


def damage_of_hold(whose: str) -> str:
    """What is wrong with the damaged record of a legal hold, and what to do."""
    return (
        f"the record of the legal hold of {whose} is damaged; the hold stands: set it anew with torpor hold, "
        "or release it with torpor unhold"
    )


def _status(fields: Mapping[str, bytes], score: float, now_ms: int) -> Status:
    if fields.get("state") == b"quarantined":
        return Status.QUARANTINED
    if fields.get("state") == b"purged" and int(fields.get("tombstone_until", 0)) > now_ms:
        return Status.PURGED
    if score <= now_ms:
        return Status.DUE
    if int(fields.get("restore_until", 0)) > now_ms:
        return Status.RESTORING
    return _OF_FRACTIONS.get(score % 1, Status.LIVE)


def _waiting_since(fields: Mapping[str, bytes], status: Status, score: bytes) -> bytes | int | None:
    """When a session first became due (ms), None if it does not wait. If its score has a fraction, it was claimed."""
    if status not in (Status.DUE, Status.POSTPONED, Status.IN_WORK):
        return None
    return fields.get("waiting_since", score) if float(score or 0) % 1 else score
