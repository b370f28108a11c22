"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Ailment(StrEnum):
    """What can be wrong in Redis, and with the archive."""

    GHOST = "index entry without a session"
    UNINDEXED = "session without an index entry"
    METADATA_LOST = "messages without metadata"
    UNREADABLE = "keys or metadata that are not Torpor's"
    CORRUPT = "messages that can't be read"
    OBJECT_DAMAGED = "object of the archive that is damaged"
    BEHIND = "messages in the archive that Redis lacks"
    HOLD_LOST = "legal hold on objects of the archive that Redis lacks"
    PURGE_FORGOTTEN = "purge that Redis has forgotten"
    UNADOPTED = "adoption that was not finished"
    ARCHIVE_UNAVAILABLE = "archive that fails for a worker"
    UNEXAMINED = "archive that was not examined"
    KINDS_MISCOUNTED = "count of sessions by kind that is wrong or missing"
    KEY_OF_OTHER_TYPE = "key of the deployment that is not Torpor's"
    SHARD_UNREADABLE = "a shard's index or quarantine that is not Torpor's"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and whether it is repaired. `detail` says more, or why it can't be repaired.

    The session id is None if the shard itself is unreadable, the archive fails, or an object is no session's.
    """

    session_id: str | None
    ailment: Ailment
    repaired: bool = False
    detail: str | None = None
