"""What a session is, as plain data: its expiry, its state, and the outcomes of operations on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from torpor.history.errors import InvalidExpiry

DEFAULT_IDLE = timedelta(hours=24)
MAX_EXPIRY = timedelta(days=36_500)


def check_seconds(seconds: int | None, what: str) -> timedelta | None:
    """A timedelta of `seconds`, a whole number from 1 to 100 years; raises InvalidExpiry."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise InvalidExpiry(f"{what} must be a whole number of seconds, not {seconds!r}")
    if not 1 <= seconds <= MAX_EXPIRY.total_seconds():
        raise InvalidExpiry(f"{what} must be from 1 second to 100 years, not {seconds:,}")
    return timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a session becomes due, and how long the archive keeps it after its last activity.

    None stands for the deployment's default.
    """

    idle: timedelta | None = None
    max_age: timedelta | None = None
    retention: timedelta | None = None

    @classmethod
    def of_seconds(cls, ttl: int | None, max_age: int | None = None, archive_retention: int | None = None) -> Self:
        """An expiry of whole seconds, each from 1 to 100 years; raises InvalidExpiry."""
        return cls(
            check_seconds(ttl, "ttl"),
            check_seconds(max_age, "max_age"),
            check_seconds(archive_retention, "archive_retention"),
        )


class Status(StrEnum):
    """Where a session that is in Redis stands."""

    LIVE = "live"
    DUE = "due"
    IN_WORK = "in work"
    RESTORING = "restoring"
    QUARANTINED = "quarantined"
    PURGED = "purged"  # a tombstone, which refuses late writes


@dataclass(frozen=True, slots=True)
class LegalHold:
    """A session or its owner must not be erased. `value` is what Redis has of it."""

    reason: str
    since: datetime
    value: bytes


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session in Redis, as one atomic read saw it. Moments are in UTC, to the millisecond.

    `idle_timeout` and `max_age` are what counts, `expiry` is what the session has of its own.

    `epoch` and `message_count` together name a state of the transcript exactly.
    `base` counts the leading messages that came from earlier epochs in the archive, `archived_count` the
    leading messages that are safe in the archive. `whole` tells that nothing of the session is in the archive
    alone. `floor`, where set, is the epoch below which the archive has yet to be erased. `attempts` counts the
    attempts to archive it that have not ended well. `hold` is its legal hold or its owner's; `hold_pending` tells
    that its objects in the archive have yet to be seen to. `purge` is the purge that has left this tombstone.
    `looks_again_at` is when an erasure must look once more, since a lease was running; None once that is past.
    """

    session_id: str
    status: Status
    epoch: int
    created: datetime
    last_active: datetime
    last_written: datetime
    due_at: datetime | None
    idle_timeout: timedelta
    max_age: timedelta | None
    expiry: Expiry
    owner: str | None
    message_count: int
    restored_count: int
    archived_count: int
    complete: bool
    floor: int | None
    attempts: int
    error: str | None
    hold: LegalHold | None = None
    hold_pending: bool = False
    purge: str | None = None
    recheck_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed session. The token is its due score: work commits only while the score is still this one.

    `claim` is the token that it was claimed with, which names the attempt however often the lease is renewed.
    """

    session_id: str
    token: bytes
    claim: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive messages as JSON bytes, oldest first, and the state of the session they were read from.

    `whole` tells that nothing of the session is in the archive alone.
    """

    epoch: int
    restored_count: int
    total: int
    start: int
    messages: list[bytes]
    complete: bool = False

    @property
    def state(self) -> tuple[int, int]:
        """Positions mean the same in pages that have this in common."""
        return self.epoch, self.restored_count

    @property
    def stop(self) -> int:
        """The position after the last message of this page."""
        return self.start + len(self.messages)

    def reaches(self, stop: int | None) -> bool:
        """Does this page end at `stop`, or with the last message?"""
        return self.stop >= (self.total if stop is None else min(stop, self.total))


class CommitOutcome(StrEnum):
    """What became of a session whose archive was verified."""

    DELETED = "deleted"
    KEPT = "kept"
    SUPERSEDED = "superseded"
    GONE = "gone"


class EraseOutcome(StrEnum):
    """What became of the erasure that a clear had asked for."""

    DONE = "done"
    RECHECK = "recheck"  # due once more, when a lease that was running at the clear or the tombstone has ended
    OTHER = "other"  # a later clear has another floor, or the session is gone


class PurgeOutcome(StrEnum):
    """What became of a session that was to be purged."""

    PURGED = "purged"
    HELD = "held"  # under a legal hold
    ACTIVE = "active"  # used too lately
    CHANGED = "changed"  # it has another owner or epoch than was seen, or the lease is lost: look again


@dataclass(frozen=True, slots=True)
class PurgeTarget:
    """A session that is to be purged: the owner that Redis was seen to have, and those that the archive has it for."""

    session_id: str
    owner: str | None = None
    archived_owners: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Purging:
    """What was done about a session that was to be purged. Epochs below `floor` are forbidden to come back."""

    outcome: PurgeOutcome
    floor: int | None = None
    messages: int = 0
    hold: LegalHold | None = None


class HoldOutcome(StrEnum):
    """What became of a legal hold."""

    NOTED = "noted"
    NONE = "none"  # there was none to release
    PURGED = "purged"  # the session is purged already


class ClaimOutcome(StrEnum):
    """Why a session could not be claimed at once."""

    BUSY = "busy"
    QUARANTINED = "quarantined"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class RestoreTicket:
    """A restore that has begun. Only the newest ticket of a session can finish.

    `epoch` and `message_count` are those of what is live.
    """

    session_id: str
    token: bytes
    epoch: int
    message_count: int


class RestoreRefusal(StrEnum):
    """Why a restore need not begin."""

    COMPLETE = "complete"  # nothing of the session is in the archive alone
    RUNNING = "running"  # another restore is at it


class RestoreEnd(StrEnum):
    """How a restore ended."""

    RESTORED = "restored"
    NOTHING = "nothing"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Origin:
    """What the archive remembers of a session's metadata; it fills in where the live session has none."""

    created: datetime | None = None
    expiry: Expiry = Expiry()
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class RebuiltMetadata:
    """New metadata for `message_count` messages that have lost theirs: what the archive has of them.

    `epoch` is that of the newest messages, None for a new one; the other counts are as in SessionInfo.
    """

    message_count: int
    epoch: int | None
    restored_count: int
    archived_count: int
    complete: bool


class IndexOutcome(StrEnum):
    """What was done about a session's index entry."""

    ADDED = "added"
    DROPPED = "dropped"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class ShardPoll:
    """What a listener sees of a shard. `elected`: it is the one to send for what is due.

    `now` and `next_due`, the earliest moment ahead or None, are in seconds of Redis's clock.
    """

    shard: int
    now: float
    due: int
    elected: bool
    next_due: float | None


@dataclass(frozen=True, slots=True)
class ShardOverview:
    """Counts of one shard. `in_work` stops counting at 10,000. `oldest_due` is the earliest moment past due."""

    shard: int
    live: int
    due: int
    in_work: int
    quarantined: int
    oldest_due: datetime | None
    archived: int
    restored: int
    tombstones: int
    now: datetime
