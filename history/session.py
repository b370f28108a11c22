"""A session as plain data: its state, its description, and pages of its messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from torpor.history.compression import from_stored
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


class SessionKind(StrEnum):
    """What the elements of a session are."""

    CHAT = "chat"  # messages of LangChain, or items of the Agents SDK
    THREAD = "thread"  # records of LangGraph


@dataclass(frozen=True, slots=True)
class LegalHold:
    """A legal hold of a session or its owner, which forbids to erase it; `value` is its record in Redis.

    `damage` says what is wrong with the record, and what to do; then `since` is None. The hold stands all the same.
    """

    reason: str
    since: datetime | None
    value: bytes
    damage: str | None = None

    @property
    def why(self) -> str:
        """The reason, or what is wrong with the record."""
        return self.damage or self.reason


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """What Redis knows of the legal holds of one session or owner: the one in force, and when one was last released."""

    hold: LegalHold | None = None
    released: datetime | None = None


@dataclass(frozen=True, slots=True)
class HoldRecords:
    """What Redis knows of the legal holds that may keep a session: its own, and those of its owners."""

    own: HoldRecord
    owners: Mapping[str, HoldRecord]


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
    - `purge` is the id of the purge that has left this tombstone; it removed so many messages from Redis: `removed`.
    - `waiting_since`: when the session first became due, if it waits to fall asleep, however often it was postponed.
    - `owner_assigned`: the owner is also that of what the archive has of the session without an owner.
    - `unproven_caller`: who has cleared or held it while Redis did not know whose it is, as scripts get a caller.
    - `kind` is None if Redis has no message of the session.
    - `recheck_at`: an erasure must look again then, because an upload may still arrive; None once that is past.
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
    removed: int = 0
    recheck_at: datetime | None = None
    waiting_since: datetime | None = None
    owner_assigned: bool = False
    unproven_caller: bytes | None = field(default=None, repr=False)
    kind: SessionKind | None = None

    @property
    def is_note(self) -> bool:
        """True if it has no message, and the archive may have all of them: the worker has something to do there.

        Such as to set a legal hold, or to note an owner, of a session that is asleep.
        """
        return not self.message_count and not self.complete and self.floor is None and self.status in _AT_REST


_AT_REST = frozenset((Status.LIVE, Status.DUE, Status.POSTPONED, Status.IN_WORK))


class Lease(NamedTuple):
    """A claimed session. The token is its due score, and work commits only while the score is unchanged.

    `claim` is the first token of the lease; it names the attempt, however often the lease is renewed. `due` is the due
    score before the claim.
    """

    session_id: str
    token: bytes
    claim: bytes
    due: bytes = b"0"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to archive a claimed session, and the session as it was at its begin.

    `stored` are the first messages that are not archived, as Redis has them: maybe none. `begun` is False if it was not
    begun, because earlier ones have failed or not ended.
    """

    session: SessionInfo
    stored: list[bytes] = field(default_factory=list, repr=False)
    begun: bool = True

    @property
    def head(self) -> list[bytes]:
        """The first messages that are not archived; raises DictionaryUnknown."""
        return from_stored(self.stored)


@dataclass(slots=True)  # to make a frozen one takes four times as long
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


@dataclass(frozen=True, slots=True)
class Origin:
    """The metadata of a session in the archive, for the fields that the session in Redis lacks."""

    created: datetime | None = None
    expiry: Expiry = Expiry()  # noqa: RUF009 - frozen
    owner: str | None = None
