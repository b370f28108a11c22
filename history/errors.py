"""Every error that `history` raises.

TorporError
├── TransientError            may pass: the same call can succeed later
│   ├── TranscriptChanged     the session was cleared, or slept, while it was read page by page
│   ├── StagingLost           what a restore had staged was evicted or has expired
│   ├── RedisUnavailable      no connection, a time-out, LOADING, READONLY, a cluster that is down
│   └── RedisMemoryFull       Redis is at its memory limit and refuses writes
└── PermanentError            won't pass: the call, the data or the deployment must change
    ├── InvalidArgument       an argument is wrong; nothing was sent
    │   ├── ClientMismatch    a blocking call on a client of asyncio, or the reverse
    │   ├── InvalidSessionId
    │   ├── InvalidOwner
    │   ├── InvalidExpiry
    │   ├── InvalidReason
    │   └── MessageNotSerializable
    ├── MessageCorrupt        a stored element is not a LangChain message
    ├── SessionNotFound       the session is not in Redis
    │   └── SessionPurged     the session was purged; its tombstone refuses what comes late
    ├── SessionHeld           the session or its owner is under a legal hold
    ├── SessionNotWhole       a part of the session may be in the archive alone
    ├── SessionExists         the session is in Redis already
    ├── NotAdoptable          what another library has under a key is no conversation
    ├── OwnerMismatch         the session belongs to another owner
    ├── ShardCountMismatch    the deployment was set up with another shard count
    ├── PoliciesUnreadable    the deployment's recorded policies are of another version, or damaged
    ├── SessionDamaged        its metadata was lost: nothing tells what the archive has of it
    └── RedisRefused          Redis answered with an error of its own (WRONGTYPE, NOPERM, ...)
"""

from __future__ import annotations

import re

import redis.exceptions


class TorporError(Exception):
    """The root of all errors raised by `history` and `worker`."""


class TransientError(TorporError):
    """A failure that may pass: the same call can succeed later."""


class PermanentError(TorporError):
    """A failure that won't pass until the call, the data or the deployment changes."""


class RedisUnavailable(TransientError, redis.exceptions.ConnectionError):
    """Redis can't be reached or can't serve now."""


class RedisMemoryFull(TransientError, redis.exceptions.ResponseError):
    """Redis is at its memory limit and refuses writes."""


class InvalidArgument(PermanentError, ValueError):
    """An argument is wrong; nothing was sent to Redis."""


class ClientMismatch(InvalidArgument, TypeError):
    """A blocking call on a client of asyncio, or an asynchronous one on a blocking client."""


class InvalidSessionId(InvalidArgument):
    """The session id is not text, is empty, too long, or has no UTF-8 form."""


class InvalidOwner(InvalidArgument):
    """The owner is not text, is empty, too long, or has no UTF-8 form."""


class InvalidReason(InvalidArgument):
    """The reason of a legal hold is not text, is empty, or has no UTF-8 form."""


class InvalidExpiry(InvalidArgument):
    """An idle timeout, maximum age or retention is not a positive whole number of seconds."""


class MessageNotSerializable(InvalidArgument, TypeError):
    """A message holds something that JSON can't; nothing was written."""


class MessageCorrupt(PermanentError):
    """A stored element is not a LangChain message."""


class SessionNotFound(PermanentError, LookupError):
    """The session is not in Redis."""


class SessionPurged(SessionNotFound):
    """The session was purged, and its tombstone refuses what comes late; nothing was written."""


class SessionHeld(PermanentError):
    """The session or its owner is under a legal hold; nothing was changed."""


class SessionIncomplete(PermanentError):
    """A part of the session may be in the archive alone, where all of it is needed; nothing was changed."""


class SessionExists(PermanentError):
    """The session is in Redis already; nothing was written."""


class NotAdoptable(PermanentError):
    """What another library has under a key is no conversation that could be adopted; it stays as it is."""

    def __init__(self, key: bytes, reason: str, where: str = "") -> None:
        """`reason` is the same for all keys of a kind, `where` tells the place in this one."""
        super().__init__(
            f"the key {key.decode(errors='replace')!r} can't be adopted and stays as it is: {where}{reason}"
        )
        self.reason = reason


class OwnerMismatch(PermanentError):
    """The session belongs to another owner; nothing was written."""


class ShardCountMismatch(PermanentError):
    """The deployment was set up with another shard count."""


class PoliciesUnreadable(PermanentError):
    """The policies that are recorded for the deployment are of another version, or damaged."""


class SessionDamaged(PermanentError):
    """The session's metadata was lost: nothing tells what the archive has of it; `torpor doctor` mends it."""


class TranscriptChanged(TransientError):
    """The session was cleared, or archived and woken, while it was read page by page: begin again."""


class StagingLost(TransientError):
    """What a restore had staged was evicted or has expired; nothing was changed."""


class RedisRefused(PermanentError, redis.exceptions.ResponseError):
    """Redis answered with an error that retrying won't cure."""


# By name: valkey-py has classes of its own that mean the same.
_UNAVAILABLE = {
    "ConnectionError",
    "TimeoutError",
    "ReadOnlyError",
    "ClusterError",
    "RedisClusterException",
    "ValkeyClusterException",
    "TryAgainError",
    "AskError",
}


_NOT_NOW = (
    "LOADING ",
    "MASTERDOWN ",
    "READONLY ",
    "NOREPLICAS ",
    "MISCONF ",
    "BUSY ",
    "CLUSTERDOWN ",
    # valkey-py 6.2's cluster clients take these for an answer with RESP3 and without libvalkey.
    "MOVED ",
    "ASK ",
    "TRYAGAIN ",
)

# How Redis before 7 wraps the error of a command inside a script.
_INSIDE_SCRIPT = re.compile(r"^(Error running script \(.*?\): )?@user_script.*?: -(?=[A-Z]+ )")


def translate(error: Exception) -> TorporError:
    """The Torpor error that an exception of redis-py or valkey-py stands for."""
    names = {each.__name__ for each in type(error).__mro__}
    answer = _INSIDE_SCRIPT.sub("", str(error), count=1)
    if "OutOfMemoryError" in names or answer.startswith("OOM "):
        return RedisMemoryFull("Redis is at its memory limit and refuses writes; archive sessions or raise the limit")
    if names & _UNAVAILABLE or answer.startswith(_NOT_NOW):
        return RedisUnavailable(f"Redis can't be reached or can't serve now: {error}")
    return RedisRefused(f"Redis refused the operation: {error}")
