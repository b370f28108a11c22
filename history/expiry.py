"""When a session becomes due, and how long the archive keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
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
    """The idle timeout and maximum age of a session, and how long the archive keeps it after its last activity.

    None means the deployment's default.
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
