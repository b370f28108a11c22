"""A session as plain data: its expiry, its state, and the outcomes of operations on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from torpor.history.expiry import Expiry


class Status(StrEnum):
    """The state of a session that is in Redis."""

    LIVE = "live"
    DUE = "due"
    POSTPONED = "postponed"  # due again in a moment, after an attempt that could not be finished
    IN_WORK = "in work"
    RESTORING = "restoring"
    QUARANTINED = "quarantined"
    PURGED = "purged"  # a tombstone, which refuses late writes


@dataclass(frozen=True, slots=True)
class FenceToken:
    """A random token that Redis gave the deployment's fence, and since when, by Redis's clock."""

    token: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """Which deployment a Redis belongs to: the deployment's id and the URL of its archive, as Redis has recorded them.

    With a `deployment` but no `archive`, a first use was interrupted. `configured`: a worker has recorded the
    deployment's configuration, so the deployment has been at work. `fence` has the last tokens of the fence, newest
    last, and `read_at` is Redis's time. `redis` is the address, without credentials, as the client has it.
    """

    redis: str = field(compare=False)
    deployment: str | None = None
    archive: str | None = None
    configured: bool = False
    fence: Sequence[FenceToken] = ()
    read_at: datetime | None = field(default=None, compare=False)

    @property
    def newest_token(self) -> str | None:
        """The newest token of the fence."""
        return self.fence[-1].token if self.fence else None

    def has_token(self, token: str) -> bool:
        """True if the fence had this token lately."""
        return any(each.token == token for each in self.fence)

    def goes_on_from(self, earlier: Identity) -> bool:
        """True if this is the deployment that it was earlier, and Redis has lost nothing of its fence since."""
        same = (self.deployment, self.archive, self.configured) == (
            earlier.deployment,
            earlier.archive,
            earlier.configured,
        )
        return same and (earlier.newest_token is None or self.has_token(earlier.newest_token))


@dataclass(frozen=True, slots=True)
class LegalHold:
    """A legal hold of a session or its owner, which forbids to erase it; `value` is its record in Redis."""

    reason: str
    since: datetime
    value: bytes


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session in Redis, as one atomic read saw it. Times are in UTC, to the millisecond.

    - `idle_timeout` and `max_age` are in force; `expiry` has the session's own values.
    - `epoch` and `message_count` together name a state of the transcript exactly.
    - `restored_count` counts the leading messages that came from older epochs in the archive.
    - `archived_count` counts the leading messages that are safe in the archive.
    - `complete`: no message of the session is in the archive alone.
    - `floor`: the worker must still erase the epochs below it from the archive; None if there is nothing to erase.
    - `attempts` counts the attempts to archive the session that have failed or not ended.
    - `hold` is the legal hold of the session or of its owner.
    - `hold_pending`: the worker must still set or release the hold of the session's objects in the archive.
    - `purge` is the id of the purge that has left this tombstone.
    - `waiting_since`: when the session first became due, if it waits to fall asleep, however often it was postponed.
    - `recheck_at`: the erasure must be checked again then, because a lease was running; None once that is past.
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
    waiting_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed session. The token is its due score, and work commits only while the score is unchanged.

    `claim` is the first token of the lease; it names the attempt, however often the lease is renewed. `due` is the due
    score before the claim.
    """

    session_id: str
    token: bytes
    claim: bytes
    due: bytes = b"0"


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive messages as JSON bytes, oldest first, and the state of the session at that time.

    `complete`: no message of the session is in the archive alone.
    """

    epoch: int
    restored_count: int
    total: int
    start: int
    messages: list[bytes] = field(repr=False)
    complete: bool = False

    @property
    def state(self) -> tuple[int, int]:
        """Pages with an equal state count positions alike."""
        return self.epoch, self.restored_count

    @property
    def stop(self) -> int:
        """The position after the last message of this page."""
        return self.start + len(self.messages)

    def reaches(self, stop: int | None) -> bool:
        """True if this page ends at `stop` or with the last message."""
        return self.stop >= (self.total if stop is None else min(stop, self.total))


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


class PurgeOutcome(StrEnum):
    """The outcome for a session that was to be purged."""

    PURGED = "purged"
    HELD = "held"  # under a legal hold
    ACTIVE = "active"  # not idle for long enough
    CHANGED = "changed"  # its owner or epoch has changed, or the lease is lost: look at it again


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

    `epoch` and `message_count` are those of the session in Redis.
    """

    session_id: str
    token: bytes
    epoch: int
    message_count: int


class RestoreRefusal(StrEnum):
    """Why a restore did not begin."""

    COMPLETE = "complete"  # no message of the session is in the archive alone
    RUNNING = "running"  # another restore is running


class RestoreEnd(StrEnum):
    """How a restore ended."""

    RESTORED = "restored"
    NOTHING = "nothing"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Origin:
    """The metadata of a session in the archive, for the fields that the session in Redis lacks."""

    created: datetime | None = None
    expiry: Expiry = Expiry()  # noqa: RUF009 - frozen
    owner: str | None = None


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
    """The outcome of comparing a session with its entry in the due index."""

    ADDED = "added"
    DROPPED = "dropped"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class ShardPoll:
    """A listener's view of a shard. `elected`: this listener is the one that sends a drain for the due sessions.

    `now` and `next_due` are in seconds of Redis's clock; `next_due` is the earliest due moment ahead, or None.
    """

    shard: int
    now: float
    due: int
    elected: bool
    next_due: float | None


@dataclass(frozen=True, slots=True)
class ShardOverview:
    """Counts of one shard. `oldest_due` is the earliest due moment in the past.

    `in_work` and `postponed` count to 10,000 at most.
    """

    shard: int
    live: int
    due: int
    in_work: int
    postponed: int
    quarantined: int
    oldest_due: datetime | None
    archived: int
    restored: int
    tombstones: int
    now: datetime


class ArchiveState(StrEnum):
    """The state of the archive, as its workers see it."""

    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class ArchiveNote:
    """What a worker notes of the archive: its error, empty if it has worked.

    A failure counts for the span `counts` if the worker notes nothing more. Its notes are forgotten after `kept`.
    """

    worker: str
    error: str = ""
    counts: timedelta = timedelta(minutes=10)
    kept: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """When the archive has last worked for a worker, and when it has last failed, with the error."""

    worker: str
    is_failing: bool
    last_success: datetime | None
    last_failure: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ArchiveHealth:
    """The notes of all workers. `unavailable_since` is None while the archive works for all of them."""

    unavailable_since: datetime | None
    workers: Sequence[WorkerHealth]
