"""Order: the document that says which sessions a purge removes, from where, who wants it and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from torpor.history.protocol import InvalidArgument, check_owner, check_session_id
from torpor.worker.archive.documents import Document, Moment
from torpor.worker.jobs.orders import Identified, new_id
from torpor.worker.jobs.orders import check_id as check_job_id

_MAX_IDLE = timedelta(days=36_500)


class Scope(StrEnum):
    """Where a purge removes sessions from."""

    EVERYWHERE = "everywhere"
    LIVE = "live"  # from Redis; archived messages can still be restored
    ARCHIVE = "archive"  # from the archive; messages in Redis stay


def check_id(purge: str) -> str:
    """The purge id itself, if it is valid; raises InvalidArgument."""
    return check_job_id(purge, "purge")


_FreeText = Annotated[str, BeforeValidator(str)]


class TargetFields(TypedDict, total=False):
    """A target in JSON, without what it does not have."""

    session: Annotated[str, Field(description="One session, by id.")]
    owner: Annotated[str, Field(description="All sessions of an owner.")]
    idle_seconds: Annotated[float, Field(description="Only sessions that have been idle for so long.")]


class Target(Document):
    """The sessions of a purge: one, an owner's, or those that have been idle for so long, an owner's or all."""

    session: Annotated[str, AfterValidator(check_session_id)] | None = None
    owner: Annotated[str, AfterValidator(check_owner)] | None = None
    idle_seconds: float | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.session is None) == (self.owner is None and self.idle_seconds is None):
            raise InvalidArgument("a purge is of a session, or of an owner's or idle sessions")
        if self.idle_seconds is not None and not 1 <= self.idle_seconds <= _MAX_IDLE.total_seconds():
            raise InvalidArgument("the idle time of a purge must be from 1 second to 100 years")
        return self

    @model_serializer(mode="wrap")
    def _without_nulls(self, serialize: Callable[[Self], TargetFields]) -> TargetFields:
        fields = serialize(self)
        return cast("TargetFields", {name: value for name, value in fields.items() if value is not None})


class Order(Identified):
    """A purge, as somebody has ordered it. `of` makes one."""

    id: Annotated[str, AfterValidator(check_id)] = Field(alias="purge", description="The purge id.")
    target: Target = Field(description="`session`, or `owner`, or `idle_seconds`, or the last two.")
    scope: Scope = Field(description="Where sessions are removed from.")
    requested_by: _FreeText = Field(description="Who ordered the purge; free text, unchecked.")
    reason: _FreeText = Field(description="Why; free text, unchecked.")
    requested_at: Moment = Field(description="When it was ordered, by the clock of the machine that wrote the order.")

    @classmethod
    def of(
        cls,
        *,
        session: str | None = None,
        owner: str | None = None,
        idle: timedelta | None = None,
        scope: Scope = Scope.EVERYWHERE,
        requested_by: str = "",
        reason: str = "",
        id: str | None = None,  # noqa: A002 - as the field
    ) -> Order:
        """A new order; raises InvalidArgument."""
        try:
            return Order(
                purge=new_id() if id is None else id,
                target=Target(
                    session=session, owner=owner, idle_seconds=None if idle is None else idle.total_seconds()
                ),
                scope=scope,
                requested_by=requested_by,
                reason=reason,
                requested_at=datetime.now(UTC),
            )
        except ValidationError as exc:
            first = exc.errors()[0]
            cause = first.get("ctx", {}).get("error")
            raise cause if isinstance(cause, InvalidArgument) else InvalidArgument(first["msg"]) from exc

    @property
    def session(self) -> str | None:
        """The session of a purge of one."""
        return self.target.session

    @property
    def owner(self) -> str | None:
        """The owner whose sessions are purged."""
        return self.target.owner

    def is_others(self, owners: Iterable[str]) -> bool:
        """True if a session's id is of these owners, and the purge, which is for one owner, would take another's too.

        A purge of all idle sessions is for all owners.
        """
        if self.session is None and self.owner is None:
            return False
        return len({self.owner, *owners} - {None}) > 1

    @property
    def idle(self) -> timedelta | None:
        """How long the sessions have been idle."""
        return None if self.target.idle_seconds is None else timedelta(seconds=self.target.idle_seconds)
