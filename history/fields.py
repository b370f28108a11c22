"""The fields of a session's hash: their names in Python and Lua, and the short names that Redis stores.

Moments are milliseconds since 1970, and spans are milliseconds. An epoch is a moment in microseconds. A flag is '1' or
absent.
"""

from __future__ import annotations

from collections.abc import Sequence

STORED = {
    "epoch": "epoch",  # when the session last came into Redis; it names a state together with the number of messages
    "floor": "floor",  # epoch below which the archive has yet to be erased
    "state": "state",  # 'quarantined', 'purged' for a tombstone, absent for all other sessions
    "owner": "owner",
    "owner_assigned": "assigned",  # flag: the owner is also that of what the archive has without an owner
    "unproven_caller": "caller",  # who has cleared or held the session while Redis did not know whose it is
    "created": "created",  # moment; absent if it is the moment of the epoch
    "last_active": "active",  # moment of the last write or read
    "last_written": "written",  # moment of the last write; absent if nothing has read the session since
    "idle": "idle",  # the session's own idle timeout
    "max_age": "max_age",  # its own maximum age
    "retention": "retention",  # its own retention in the archive
    "restored_count": "base",  # how many messages, from the first on, came from older epochs in the archive
    "archived_count": "archived",  # how many messages, from the first on, are safe in the archive
    "complete": "whole",  # flag: no part of the session is in the archive alone
    "known_absent": "empty",  # flag: there is no message in Redis or in the archive, which is remembered for a while
    "recent_requests": "seen",  # the requests of the last minute, 10 bytes each
    "attempt": "attempt",  # token of the lease under which the current attempt to archive began
    "attempts": "attempts",  # how many attempts have begun since one ended well
    "waiting_since": "since",  # moment at which it first became due since it was active; only after a claim
    "error": "error",  # why the last attempt failed
    "restore_token": "restoring",  # token of the restore that is running
    "restore_until": "restoring_until",  # moment at which that restore counts as dead
    "hold_pending": "holding",  # flag: the objects in the archive do not yet carry the legal hold as it is now
    "recheck_at": "again",  # moment after which an erasure looks at the archive once more
    "purge": "purge",  # id of the purge that emptied the session
    "tombstone_until": "until",  # moment at which the tombstone ends
    "removed": "removed",  # how many messages the purge removed from Redis
}

_NAMES = {short.encode(): name for name, short in STORED.items()}


def by_name(pairs: Sequence[bytes]) -> dict[str, bytes]:
    """The fields of a session by their names, from the reply of HGETALL: stored name, value, ..."""
    stored = zip(pairs[::2], pairs[1::2], strict=True)
    return {_NAMES[short]: value for short, value in stored if short in _NAMES}
