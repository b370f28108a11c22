"""Archive a claimed session and delete it from Redis, or give it back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from torpor.history.calls.call import MILLISECOND, PAGE_MESSAGES, Call, Deployment
from torpor.history.calls.session_info import to_session_info
from torpor.history.calls.session_keys import session_keys
from torpor.history.outcomes import CommitOutcome, EraseOutcome
from torpor.history.overview import Ending
from torpor.history.scripts import script
from torpor.history.session import Attempt, Lease, SessionInfo


def snapshot(
    deployment: Deployment, lease: Lease, head_bytes: int, *, only_first: bool = False
) -> Call[Attempt | None]:
    """Begin an attempt: count it, describe the session, and read its first messages that are not archived.

    None if the lease is lost or the session is gone. With `only_first`, none is begun if earlier ones have failed or
    not ended. No message is read that goes beyond `head_bytes`.
    """
    keys = session_keys(deployment.keyspace, lease.session_id)

    def decode(reply: Any) -> Attempt | None:
        if not reply:
            return None
        begun, described, *head = reply
        info = to_session_info(deployment, lease.session_id, described)
        return Attempt(info, head, begun=begun == b"1") if info else None

    return Call(
        script("snapshot"),
        [keys.messages, keys.metadata, keys.due, keys.holds],
        [keys.session, lease.token, lease.claim, lease.due, int(only_first), head_bytes, PAGE_MESSAGES],
        decode,
    )


def renew(deployment: Deployment, lease: Lease, by: timedelta) -> Call[Lease | None]:
    """Prolong a lease `by` a span, at least a millisecond; None if it is lost."""
    keys = session_keys(deployment.keyspace, lease.session_id)
    renewed = lease._replace(token=b"%.1f" % (float(lease.token) + max(1, by // MILLISECOND)))
    return Call(
        script("renew"),
        [keys.due],
        [keys.session, lease.token, renewed.token],
        lambda reply: renewed if reply else None,
    )


def commit(deployment: Deployment, lease: Lease, archived: SessionInfo, sent_bytes: int = 0) -> Call[CommitOutcome]:
    """Delete the session if it is still as `archived` describes it; else note how many messages are safe.

    `sent_bytes`, for the tally, is the size of what the attempt has uploaded.
    """
    keys = session_keys(deployment.keyspace, lease.session_id)
    owner_keys = [keys.shard.owner(archived.owner.encode())] if archived.owner else []
    return Call(
        script("commit"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.recent_requests,
            keys.record_index,
            *owner_keys,
        ],
        [
            keys.session,
            lease.token,
            archived.epoch,
            archived.restored_count,
            archived.message_count,
            lease.claim,
            *deployment.defaults,
            sent_bytes,
        ],
        lambda reply: CommitOutcome(reply.decode()),
    )


def release(
    deployment: Deployment,
    lease: Lease,
    delay: timedelta | None,
    *,
    counted: bool,
    error: str = "",
    waiting: bool = True,
    ending: Ending | None = None,
) -> Call[bool]:
    """Give a session back, due after `delay`, or put it in quarantine with None; False if the lease is lost.

    If not `counted`, the attempt that the claim began is forgotten. If not `waiting`, it counts as overdue only after
    the delay. The tally counts the `ending` of the attempt.
    """
    keys = session_keys(deployment.keyspace, lease.session_id)
    delay_arg = b"" if delay is None else delay // MILLISECOND
    return Call(
        script("release"),
        [keys.metadata, keys.due, keys.quarantine, keys.tally],
        [
            keys.session,
            lease.token,
            delay_arg,
            b"" if counted else lease.claim,
            error.encode(errors="replace"),
            lease.due if waiting else b"",
            ending.encode() if ending else b"",
        ],
        bool,
    )


def requeue(deployment: Deployment, session_id: str) -> Call[bool]:
    """Take a session out of quarantine: due now, its attempts forgotten; False if it is not there."""
    keys = session_keys(deployment.keyspace, session_id)
    # Sent again, it would say that the session is not in quarantine.
    where = [keys.metadata, keys.due, keys.quarantine]
    return Call(script("requeue"), where, [keys.session], bool, repeatable=False)


def note_erased(deployment: Deployment, lease: Lease, floor: int, again: timedelta | None = None) -> Call[EraseOutcome]:
    """Note that the archive below `floor` is erased; once that is done, the session can be archived again.

    With `again`, the archive must be searched once more after that span.
    """
    keys = session_keys(deployment.keyspace, lease.session_id)
    return Call(
        script("note_erased"),
        [keys.messages, keys.metadata, keys.due, keys.tally, keys.holds],
        [keys.session, lease.token, floor, *deployment.defaults, b"" if again is None else again // MILLISECOND],
        lambda reply: EraseOutcome(reply.decode()),
    )
