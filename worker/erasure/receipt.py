"""Receipt: the document that says what a purge was asked for, found, removed, and had to leave."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, FailFast, Field

from torpor.worker.archive.documents import Document, Moment
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order

# A receipt names so many of the things that were left, and counts all.
_NAMED = 1_000
# Fields that older receipts lack.
_SINCE = {"deployment", "redis"}


class PurgeState(StrEnum):
    """Where a purge stands."""

    QUEUED = "queued"  # no worker has begun it
    RUNNING = "running"  # in work, or waiting for a worker's lease to end before the recheck
    FAILED = "failed"  # it met an error and is tried again
    COMPLETE = "complete"  # finished: a recheck found nothing
    BLOCKED = "blocked"  # finished, except for objects and sessions that may not be removed


class Kept(Document):
    """A session under a legal hold, or an object that the archive refuses to delete."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    session: str = Field(description="The session id.")
    object: str | None = Field(default=None, description="The object's name; null if the session itself is kept.")
    why: str = Field(description="Why it may not be removed.")
    until: Moment | None = Field(default=None, description="When it may be removed, if that is known.")


class Remainder(Document):
    """All that a purge may not remove: counted, and the first thousand named."""

    model_config = ConfigDict(frozen=False, json_schema_serialization_defaults_required=True)

    sessions: int = Field(default=0, description="How many sessions may not be removed.")
    objects: int = Field(default=0, description="How many objects may not be removed.")
    named: Annotated[list[Kept], FailFast()] = Field(default_factory=list, description="The first 1,000 of them.")

    def add(self, kept: Kept) -> None:
        """Count a session, or an object of one."""
        self.sessions += kept.object is None
        self.objects += kept.object is not None
        if len(self.named) < _NAMED:
            self.named.append(kept)

    def __bool__(self) -> bool:
        return bool(self.named)


class InventoryDigest(Document):
    """An inventory of the purge, and the digest to compare it with."""

    object: str = Field(description="The inventory's object name.")
    sha256: str | None = Field(description="The SHA-256 of its uncompressed text.")


class Receipt(Order):
    """The receipt of a finished purge. It repeats the order."""

    model_config = ConfigDict(extra="allow")  # a receipt is shown with all it says, whichever version wrote it

    state: Literal[PurgeState.COMPLETE, PurgeState.BLOCKED] = Field(
        description="`blocked` if something may not be removed: see `kept`."
    )
    finished_at: Moment = Field(description="When it was finished, by Redis's clock.")
    namespace: str = Field(description="The deployment's namespace.")
    deployment: str | None = Field(
        default=None, description="The deployment's id, which Redis and the archive have; older receipts lack it."
    )
    redis: str | None = Field(
        default=None, description="The address of Redis, as the worker has it; older receipts lack it."
    )
    archive: str = Field(description="The archive's URL.")
    found: Tally = Field(description="The sum of the inventories.")
    removed: Tally = Field(description="`found` without what was spared.")
    inventories: Annotated[list[InventoryDigest], FailFast()] = Field(description="What was found, session by session.")
    kept: Remainder = Field(description="What may not be removed.")
    late_writes_refused_for_seconds: int = Field(description="How long the tombstones refuse late writes.")
    recoverable_until: str | None = Field(
        description="Until when soft delete lets an administrator bring deleted objects back; null if it does not; "
        "begins with `unknown` if Torpor may not read the bucket's settings."
    )

    def fields(self) -> dict[str, Any]:
        """The receipt as JSON has it; an older one stays as it was written."""
        return {name: value for name, value in super().fields().items() if name not in _SINCE or value is not None}
