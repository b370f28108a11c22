"""The call of a script, and how times are written in its arguments and replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from torpor.history.compression import Compression, to_stored
from torpor.history.errors import OwnerRequired
from torpor.history.expiry import DEFAULT_IDLE, Expiry
from torpor.history.keys import Keyspace
from torpor.history.overview import FenceToken
from torpor.history.owners import Caller, encode_caller, named_owner
from torpor.history.policy import Policies
from torpor.history.scripts import Script

T_co = TypeVar("T_co", covariant=True)

# A larger page would block Redis for all other clients for milliseconds.
PAGE_MESSAGES = 1_000
MILLISECOND = timedelta(milliseconds=1)


@dataclass(slots=True)  # to make a frozen one takes four times as long
class Call(Generic[T_co]):
    """One script call. `decode` turns the reply (bytes, never text) into the result, or raises an error for it.

    A `repeatable` call has the same effect if it is sent twice, and its second reply is as right as the first.
    """

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes | int] = field(repr=False)
    decode: Callable[[Any], T_co]
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Deployment:
    """The configuration that all users of one namespace share: keys, default expiry and policies.

    `retention` is how long the archive keeps a session, None for ever. It is known only if a worker has recorded it
    (`retention_known`). `recorded` is False until the first use of the namespace has recorded the shard count.
    `id` and `archive` are the deployment's id and the URL of its archive. `owner_required`: callers must name an owner.
    `compression` is how new messages are written; all are read, however they were written.
    `fence` has the last tokens of its fence, newest last. `read_at` is Redis's time at the reading. `kinds_counted` is
    False if the deployment had sessions before the shards counted them by kind, and nobody has counted those since.
    """

    keyspace: Keyspace
    idle: timedelta = DEFAULT_IDLE
    max_age: timedelta | None = None
    retention: timedelta | None = None
    policies: Policies = Policies()  # noqa: RUF009 - frozen
    recorded: bool = True
    retention_known: bool = True
    id: str | None = None
    archive: str | None = None
    owner_required: bool = False
    fence: Sequence[FenceToken] = ()
    compression: Compression = Compression.NONE
    read_at: datetime | None = field(default=None, compare=False, repr=False)
    kinds_counted: bool = field(default=True, compare=False)

    @property
    def defaults(self) -> tuple[bytes | int, bytes | int]:
        """Default idle timeout and maximum age, as script arguments (ms)."""
        return span_ms(self.idle), span_ms(self.max_age)

    def stored(self, elements: Iterable[bytes]) -> list[bytes]:
        """Elements as the deployment has them in Redis, as script arguments."""
        return to_stored(elements, self.compression)

    def resolve(self, session_id: str, owner: Caller, own: Expiry) -> Expiry:
        """The expiry of a session for which an application asks `own`, within the policies."""
        if not self.policies.rules:
            return own
        return self.policies.resolve(session_id, named_owner(owner), own, Expiry(self.idle, self.max_age))

    def caller(self, owner: Caller, *, assigns: bool = False) -> bytes:
        """The caller as a script argument, as `encode_caller`; raises OwnerRequired too."""
        if owner is None and self.owner_required:
            raise OwnerRequired("this deployment refuses sessions without an owner (TORPOR_REQUIRE_OWNER): give owner=")
        return encode_caller(owner, assigns=assigns)


@dataclass(frozen=True, slots=True)
class Keep:
    """The type of KEEP, which stands for an expiry value that stays as it is."""


KEEP = Keep()


def to_ms(moment: datetime) -> int:
    """A moment as milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def span_ms(span: timedelta | None) -> bytes | int:
    """A span as a script argument: milliseconds, or empty for None."""
    return b"" if span is None else span // MILLISECOND


def expiry_args(expiry: Expiry) -> tuple[bytes | int, bytes | int, bytes | int]:
    """Idle timeout, maximum age and retention as script arguments (ms, or empty)."""
    return span_ms(expiry.idle), span_ms(expiry.max_age), span_ms(expiry.retention)


def to_record(span: timedelta | Keep | None) -> bytes | int:
    """The script argument that records a span: '-' deletes the recorded one, empty leaves it."""
    return b"" if isinstance(span, Keep) else span_ms(span) or b"-"


def to_span(ms: bytes | None) -> timedelta | None:
    """The span in a reply (ms); None if the reply has none."""
    return timedelta(milliseconds=int(ms)) if ms else None


def to_moment_or_none(ms: bytes | int | None) -> datetime | None:
    """The moment in a reply (ms since 1970, perhaps with a fraction); None if the reply has none."""
    return datetime.fromtimestamp(float(ms) / 1000, UTC) if ms else None


def to_moment_if_readable(ms: bytes | None) -> datetime | None:
    """As `to_moment_or_none`; None also for a value that is no moment."""
    try:
        return to_moment_or_none(ms)
    except (ValueError, OverflowError, OSError):
        return None


def to_moment(ms: bytes | int) -> datetime:
    """The moment in a reply (whole ms since 1970)."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
