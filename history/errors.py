"""All errors that `history` raises.

TorporError
├── TransientError            may pass: the same call can succeed later
│   ├── TranscriptChanged     the session was cleared or archived while it was read page by page
│   ├── StagingLost           the messages that a restore had staged were evicted or have expired
│   ├── RedisUnavailable      no connection, a time-out, LOADING, READONLY, a cluster that is down
│   │   └── NoFreeConnection  all connections of the client were in use for too long; nothing was sent
│   └── RedisMemoryFull       Redis is at its memory limit and refuses writes
└── PermanentError            won't pass: the call, the data or the deployment must change
    ├── InvalidArgument       an argument is wrong; nothing was sent
    │   ├── ClientMismatch    a blocking call with an asyncio client, or a client that the class can't use
    │   ├── InvalidSessionId
    │   ├── InvalidOwner
    │   ├── InvalidExpiry
    │   ├── InvalidReason
    │   ├── OwnerRequired     the deployment refuses sessions without an owner, and the call names none
    │   ├── MessageNotSerializable
    │   └── MessageTooLarge
    ├── MessageCorrupt        a stored element is not a message
    ├── KindMismatch          the session is a chat and no LangGraph thread, or the reverse
    ├── SessionNotFound       the session is not in Redis
    │   └── SessionPurged     the session was purged; its tombstone refuses late writes
    ├── SessionHeld           the session or its owner is under a legal hold
    ├── SessionIncomplete     a part of the session may be in the archive alone
    ├── SessionExists         the session is in Redis already
    ├── NotAdoptable          another library's key is not a conversation
    ├── OwnerMismatch         the session belongs to another owner
    │   └── OwnerMissing      it has messages and no owner, and the call names one
    ├── ShardCountMismatch    the deployment was set up with another shard count
    ├── DictionaryUnknown     the deployment compresses messages in a way that only a newer version knows
    ├── PoliciesUnreadable    the deployment's recorded policies are damaged or of another version
    ├── SessionDamaged        the session's metadata was lost, so its archived messages are unknown
    └── RedisRefused          Redis answered with an error of its own (WRONGTYPE, NOPERM, ...)
"""

from __future__ import annotations

import re

import redis.exceptions


class TorporError(Exception):
    """The root of all errors raised by `history` and `worker`."""


class TransientError(TorporError):
    """The failure may pass: the same call can succeed later."""


class PermanentError(TorporError):
    """The failure won't pass until the call, the data or the deployment changes."""


class RedisUnavailable(TransientError, redis.exceptions.ConnectionError):
    """Redis can't be reached or can't serve now."""


class NoFreeConnection(RedisUnavailable):
    """All connections of the client's pool were in use for too long; nothing was sent."""


class RedisMemoryFull(TransientError, redis.exceptions.ResponseError):
    """Redis is at its memory limit and refuses writes."""


class InvalidArgument(PermanentError, ValueError):
    """An argument is wrong; nothing was sent to Redis."""


class ClientMismatch(InvalidArgument, TypeError):
    """A blocking call was made with an asyncio client, or the class can't use this kind of client."""


class InvalidSessionId(InvalidArgument):
    """The session id is not text, is empty, too long, or has no UTF-8 form."""


class InvalidOwner(InvalidArgument):
    """The owner is not text, is empty, too long, or has no UTF-8 form."""


class InvalidReason(InvalidArgument):
    """The reason of a legal hold is not text, is empty, or has no UTF-8 form."""


class OwnerRequired(InvalidArgument):
    """The deployment refuses sessions without an owner, and the call names none; nothing was sent."""


class InvalidExpiry(InvalidArgument):
    """An idle timeout, maximum age or retention is not a positive whole number of seconds."""


class MessageNotSerializable(InvalidArgument, TypeError):
    """A message has a value that JSON can't represent, or is nested too deep; nothing was written."""


class MessageTooLarge(InvalidArgument):
    """A message has more bytes than the limit; nothing was written."""


class MessageCorrupt(PermanentError):
    """A stored element is not a message of the kind that is read; or a session's metadata is damaged."""


class KindMismatch(PermanentError):
    """The session is a chat and no LangGraph thread, or the reverse; nothing was written."""


class SessionNotFound(PermanentError, LookupError):
    """The session is not in Redis."""


class SessionPurged(SessionNotFound):
    """The session was purged, and its tombstone refuses late writes; nothing was written."""


class SessionHeld(PermanentError):
    """The session or its owner is under a legal hold; nothing was changed."""


class SessionIncomplete(PermanentError):
    """The operation needs the complete session, and a part may be in the archive alone; nothing was changed."""


class SessionExists(PermanentError):
    """The session is in Redis already; nothing was written."""


class NotAdoptable(PermanentError):
    """The key of another library is not a conversation that can be adopted; it stays as it is."""

    def __init__(self, key: bytes, reason: str, where: str = "") -> None:
        """`reason` is the same for all keys of a kind; `where` is the place in this one."""
        super().__init__(
            f"the key {key.decode(errors='replace')!r} can't be adopted and stays as it is: {where}{reason}"
        )
        self.reason = reason


class OwnerMismatch(PermanentError):
    """The session belongs to another owner; nothing was written."""


class OwnerMissing(OwnerMismatch):
    """The session has messages and no owner, so it is not that of the owner who is named; nothing was changed."""


class ShardCountMismatch(PermanentError):
    """The deployment was set up with another shard count."""


class DictionaryUnknown(PermanentError):
    """The deployment compresses messages with a dictionary that this version of Torpor does not have."""


class PoliciesUnreadable(PermanentError):
    """The policies that are recorded for the deployment are damaged, or of another version."""


class SessionDamaged(PermanentError):
    """The session's metadata was lost, so its archived messages are unknown; `torpor doctor` repairs it."""


class TranscriptChanged(TransientError):
    """The session was cleared, or archived and woken, while it was read page by page: read it again."""


class StagingLost(TransientError):
    """The messages that a restore had staged were evicted or have expired; nothing was changed."""


class RedisRefused(PermanentError, redis.exceptions.ResponseError):
    """Redis answered with an error that retrying won't cure."""


# Names, because valkey-py has its own classes with the same names.
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
    # The cluster clients of valkey-py 6.2 return these as answers with RESP3 if libvalkey is not installed.
    "MOVED ",
    "ASK ",
    "TRYAGAIN ",
)

# Redis before version 7 wraps the error of a command inside a script like this.
_INSIDE_SCRIPT = re.compile(r"^(Error running script \(.*?\): )?@user_script.*?: -(?=[A-Z]+ )")


def translate(error: Exception) -> TorporError:
    """The Torpor error that an exception of redis-py or valkey-py means."""
    names = {each.__name__ for each in type(error).__mro__}
    answer = _INSIDE_SCRIPT.sub("", str(error), count=1)
    if "OutOfMemoryError" in names or answer.startswith("OOM "):
        return RedisMemoryFull("Redis is at its memory limit and refuses writes; archive sessions or raise the limit")
    # valkey-py has no class of its own for it.
    if "MaxConnectionsError" in names or answer == "Too many connections":
        return NoFreeConnection(
            "all connections of the client were in use: give it a larger max_connections, or ask for less at once"
        )
    if names & _UNAVAILABLE or answer.startswith(_NOT_NOW):
        return RedisUnavailable(f"Redis can't be reached or can't serve now: {error}")
    return RedisRefused(f"Redis refused the operation: {error}")
