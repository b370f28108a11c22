"""What the scripts info and snapshot reply: a session as it is."""

from __future__ import annotations

from typing import Any

from torpor.history.calls.call import Deployment, to_moment, to_moment_or_none, to_span
from torpor.history.errors import MessageCorrupt
from torpor.history.session import Expiry, LegalHold, SessionInfo, Status


def describe(deployment: Deployment, session_id: str, reply: Any) -> SessionInfo | None:
    """The reply of info and snapshot: {now, length, score, hold, field, value, ...}."""
    if not reply:
        return None
    now, length, score, hold, *pairs = reply
    fields: dict[bytes, bytes] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    try:
        epoch = int(fields.get(b"epoch", 0))
        born = epoch // 1000
        active = int(fields.get(b"active", born))
        expiry = Expiry(*(to_span(fields.get(name)) for name in (b"idle", b"max_age", b"retention")))
        return SessionInfo(
            session_id=session_id,
            status=_status(fields, float(score or 0), int(now)),
            epoch=epoch,
            created=to_moment(int(fields.get(b"created", born))),
            last_active=to_moment(active),
            last_written=to_moment(int(fields.get(b"written", active))),
            due_at=to_moment_or_none(score),
            idle_timeout=expiry.idle or deployment.idle,
            max_age=expiry.max_age or deployment.max_age,
            expiry=expiry,
            owner=fields[b"owner"].decode() if b"owner" in fields else None,
            message_count=int(length),
            restored_count=int(fields.get(b"base", 0)),
            archived_count=int(fields.get(b"archived", 0)),
            complete=b"whole" in fields,
            floor=int(fields[b"floor"]) if b"floor" in fields else None,
            attempts=int(fields.get(b"attempts", 0)),
            error=fields[b"error"].decode(errors="replace") if b"error" in fields else None,
            hold=to_hold(hold),
            hold_pending=b"holding" in fields,
            purge=fields[b"purge"].decode(errors="replace") if fields.get(b"state") == b"purged" else None,
            recheck_at=to_moment_or_none(fields.get(b"again")) if int(fields.get(b"again", 0)) > int(now) else None,
        )
    except (ValueError, OverflowError, OSError) as exc:
        raise MessageCorrupt(f"the metadata of session {session_id!r} is damaged: {exc}") from exc


def to_hold(value: bytes) -> LegalHold | None:
    """The legal hold that a script tells, `since (ms):reason`; None for empty."""
    if not value:
        return None
    since, _, reason = value.partition(b":")
    return LegalHold(reason.decode(errors="replace"), to_moment(since), value)


def _status(fields: dict[bytes, bytes], score: float, now: int) -> Status:
    if fields.get(b"state") == b"quarantined":
        return Status.QUARANTINED
    if fields.get(b"state") == b"purged" and int(fields.get(b"until", 0)) > now:
        return Status.PURGED
    if score <= now:
        return Status.DUE
    if b"restoring" in fields:
        return Status.RESTORING
    return Status.IN_WORK if score % 1 else Status.LIVE
