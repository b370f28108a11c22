"""What a call is, and how times stand in its arguments and replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from torpor.history.keys import Keyspace
from torpor.history.policy import Policies
from torpor.history.scripts import Script
from torpor.history.session import DEFAULT_IDLE, Expiry

T_co = TypeVar("T_co", covariant=True)

# More at once would keep Redis from everybody else for milliseconds.
PAGE_MESSAGES = 1_000
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One script call. `decode` turns the reply (bytes, never text) into the result, or raises what it means."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes | int]
    decode: Callable[[Any], T_co]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What all users of one namespace share: its keys, the expiry of sessions that have none of their own, policies.

    `retention` is that of archives, None for ever; `retention_known` tells that a worker has recorded it.

    `recorded` tells that it is fixed already: before the first session nothing is.
    """

    keyspace: Keyspace
    idle: timedelta = DEFAULT_IDLE
    max_age: timedelta | None = None
    retention: timedelta | None = None
    policies: Policies = Policies()  # noqa: RUF009 - frozen
    recorded: bool = True
    retention_known: bool = True

    @property
    def defaults(self) -> tuple[bytes | int, bytes | int]:
        """Default idle timeout and maximum age, as the scripts take them."""
        return span_ms(self.idle), span_ms(self.max_age)

    def resolve(self, session_id: str, owner: str | None, own: Expiry) -> Expiry:
        """What a session gets that an application asks `own` for: within what the policies allow."""
        return self.policies.resolve(session_id, owner, own, Expiry(self.idle, self.max_age))


@dataclass(frozen=True, slots=True)
class Keep:
    """Stands for an expiry value that is to stay as it is."""


KEEP = Keep()


def to_ms(moment: datetime) -> int:
    """A moment as milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def span_ms(span: timedelta | None) -> bytes | int:
    """A span as milliseconds; empty for None, as the scripts take it."""
    return b"" if span is None else span // MILLISECOND


def to_span(ms: bytes | None) -> timedelta | None:
    """The span of so many milliseconds, as the scripts tell it; None where they tell none."""
    return timedelta(milliseconds=int(ms)) if ms else None


def to_moment_or_none(ms: bytes | int | None) -> datetime | None:
    """The moment of so many milliseconds since 1970, which may have a fraction; None where there is none."""
    return datetime.fromtimestamp(float(ms) / 1000, UTC) if ms else None


def to_moment(ms: bytes | int) -> datetime:
    """The moment of so many whole milliseconds since 1970."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
