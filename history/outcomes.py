"""The outcomes of operations on sessions, as plain data, and what the operations take and give besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from torpor.history.session import LegalHold


class CommitOutcome(StrEnum):
    """The outcome for a session whose archived copy was verified."""

    DELETED = "deleted"
    KEPT = "kept"
    SUPERSEDED = "superseded"
    GONE = "gone"


class EraseOutcome(StrEnum):
    """The outcome of noting that the archive below a floor is erased."""

    DONE = "done"
    RECHECK = "recheck"  # to be erased once more, when a lease that was running at the clear has ended
    OTHER = "other"  # a later clear has set another floor, or the session is gone


class HoldKind(StrEnum):
    """Whose a legal hold is that keeps a session."""

    SESSION = "session"  # its own
    OWNER = "owner"


@dataclass(frozen=True, slots=True)
class StandingHold:
    """A legal hold in force, of the session or the owner with this `id`.

    `by` is who has set it, as was said then: free text, empty if nobody said. `caller`: the application of this owner
    has set it; None if a worker or an operator has, if the application named no owner, or for an owner's hold.
    `damage` says what is wrong with the record, and what to do; then `since` is None. The hold stands all the same.
    """

    kind: HoldKind
    id: str
    since: datetime | None
    reason: str
    by: str
    caller: str | None
    damage: str | None = None


class RejoinOutcome(StrEnum):
    """The outcome of rejoining a session with its archive."""

    REJOINED = "rejoined"
    CHANGED = "changed"  # since it was compared with the archive: compare again
    BUSY = "busy"  # a worker has leased it, or a restore is running: try again later


class PurgeOutcome(StrEnum):
    """The outcome for a session that was to be purged."""

    PURGED = "purged"
    HELD = "held"  # under a legal hold
    ACTIVE = "active"  # not idle for long enough
    CHANGED = "changed"  # its owner or epoch has changed, or the lease is lost: look at it again


@dataclass(frozen=True, slots=True)
class Repacked:
    """A session whose messages were given another stored form.

    `messages` got it, or would get it. Redis has `bytes_after` of all messages, after `bytes_before`. `damaged` ones
    stay as they are. `changed`: the session changed again and again, so some may have been left.
    """

    messages: int = 0
    damaged: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    changed: bool = False


@dataclass(frozen=True, slots=True)
class PurgeTarget:
    """A session to purge, with its owner in Redis when it was last described, and its owners in the archive."""

    session_id: str
    owner: str | None = None
    archived_owners: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Purging:
    """The result for a session that was to be purged; epochs below `floor` can never be restored."""

    outcome: PurgeOutcome
    floor: int | None = None
    messages: int = 0
    hold: LegalHold | None = None


class HoldOutcome(StrEnum):
    """The outcome of setting or releasing a legal hold."""

    NOTED = "noted"
    NONE = "none"  # there was none to release
    PURGED = "purged"  # the session is purged already


class AssignOutcome(StrEnum):
    """The outcome of giving a session an owner."""

    ASSIGNED = "assigned"  # the session is the owner's, perhaps since earlier
    OTHER = "other"  # it is another owner's
    PURGED = "purged"
    ABSENT = "absent"  # neither in Redis nor in the archive
    DAMAGED = "damaged"  # its metadata was lost


class ClaimOutcome(StrEnum):
    """Why a session could not be claimed at once."""

    BUSY = "busy"
    QUARANTINED = "quarantined"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class RestoreTicket:
    """A restore that has begun; only the newest ticket of a session can finish.

    `epoch` and `message_count` are those of the session in Redis, and `begun_at` is by the clock of its shard.
    """

    session_id: str
    token: bytes
    epoch: int
    message_count: int
    begun_at: datetime = field(compare=False)


class RestoreRefusal(StrEnum):
    """Why a restore did not begin."""

    COMPLETE = "complete"  # no message of the session is in the archive alone
    RUNNING = "running"  # another restore is running


class RestoreEnd(StrEnum):
    """How a restore ended."""

    RESTORED = "restored"
    NOTHING = "nothing"
    SUPERSEDED = "superseded"
    OWNER = "owner"  # what is in Redis is another owner's than what the archive has


@dataclass(frozen=True, slots=True)
class RebuiltMetadata:
    """New metadata for `message_count` messages whose metadata was lost, made from the archive.

    `epoch` is that of the newest messages, None for a new epoch; the other counts are as in SessionInfo.
    """

    message_count: int
    epoch: int | None
    restored_count: int
    archived_count: int
    complete: bool


class IndexOutcome(StrEnum):
    """The outcome of comparing a session with its entry in the due index: what was, or would be, repaired."""

    ADDED = "added"
    DROPPED = "dropped"
    RIGHT = "right"
