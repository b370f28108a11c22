"""A deployment as plain data: its identity, its shards, and the health of its archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


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


class Ending(StrEnum):
    """How an attempt has ended that gave the session back, as the tally of a shard counts it."""

    POSTPONED = "postponed"
    FAILED = "failed"
    QUARANTINED = "quarantined"


# The fields of a shard's tally that count what has happened since the deployment began.
COUNTS = (
    "archived",
    "kept",
    *Ending,
    "archived_messages",
    "archived_bytes",
    "freed_bytes",
    "restored",
    "restored_messages",
    "woken",
    "purged",
    "claims",
    "leases_ended",
)


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """Some shards at a moment, added up at a cost that does not grow with their sessions.

    `in_work` and `postponed` count among a few sessions only, those that are next to be looked at. `waiting` has at
    most one session of each shard that is in work or postponed. `first_due` is the earliest due moment that is past.
    `counts` has the COUNTS.
    `chats` and `threads` count the sessions that have messages in Redis, those in quarantine too.
    """

    now: datetime
    live: int
    due: int
    in_work: int
    postponed: int
    quarantined: int
    tombstones: int
    first_due: datetime | None
    waiting: Sequence[str]
    counts: Mapping[str, int]
    chats: int
    threads: int

    def __add__(self, other: ShardFigures) -> ShardFigures:
        """The figures of the shards of both."""
        first = [moment for moment in (self.first_due, other.first_due) if moment]
        return ShardFigures(
            now=max(self.now, other.now),
            live=self.live + other.live,
            due=self.due + other.due,
            in_work=self.in_work + other.in_work,
            postponed=self.postponed + other.postponed,
            quarantined=self.quarantined + other.quarantined,
            tombstones=self.tombstones + other.tombstones,
            first_due=min(first, default=None),
            waiting=[*self.waiting, *other.waiting],
            counts={name: self.counts[name] + other.counts[name] for name in self.counts},
            chats=self.chats + other.chats,
            threads=self.threads + other.threads,
        )


@dataclass(frozen=True, slots=True)
class KindCounts:
    """How many sessions of a shard have come into Redis with messages, and how many have left, since it counts them."""

    chats_came: int
    chats_left: int
    threads_came: int
    threads_left: int

    def there(self) -> tuple[int, int]:
        """The chats and the threads that have messages in Redis."""
        return self.chats_came - self.chats_left, self.threads_came - self.threads_left


@dataclass(frozen=True, slots=True)
class Measures:
    """What the processes of a deployment have measured, and what was noted of who was seen, by field.

    A field `seen:` and a name has the moment (ms) at which it was last seen. `unreadable` names the measures that are
    no numbers; they are left out.
    """

    now: datetime
    measures: Mapping[str, int]
    seen: Mapping[str, str]
    unreadable: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of a deployment at a moment, by name."""

    at: datetime
    figures: Mapping[str, int]
    id: str = field(repr=False, compare=False)


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
