"""Purge orders: what is to go, who wants it and why. An order lies in the archive until the purge has its receipt."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from torpor.history.protocol import InvalidArgument, check_owner, check_session_id
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import documents
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, DocumentDamaged, PurgeNotFound

_MAX_IDLE = timedelta(days=36_500)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Scope(StrEnum):
    """Where a purge removes sessions from."""

    EVERYWHERE = "everywhere"
    LIVE = "live"  # from Redis; what is archived can still be restored
    ARCHIVE = "archive"  # from the archive; what is in Redis stays


def new_id() -> str:
    """A purge id that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def check_id(purge: str) -> str:
    """The purge id itself, where it is one; raises InvalidArgument."""
    if not _ID.fullmatch(purge):
        raise InvalidArgument("a purge id is 1 to 100 letters, digits, '-' or '_'")
    return purge


@dataclass(frozen=True, slots=True)
class Order:
    """A purge of one session, of an owner's sessions, or of those that have been idle for so long, an owner's or all.

    Raises InvalidArgument. `requested_by` and `reason` are free text that the receipt repeats.
    """

    session: str | None = None
    owner: str | None = None
    idle: timedelta | None = None
    scope: Scope = Scope.EVERYWHERE
    requested_by: str = ""
    reason: str = ""
    id: str = field(default_factory=new_id)
    requested_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        if (self.session is None) == (self.owner is None and self.idle is None):
            raise InvalidArgument("a purge is of a session, or of an owner's or idle sessions")
        if self.session is not None:
            check_session_id(self.session)
        if self.owner is not None:
            check_owner(self.owner)
        if self.idle is not None and not timedelta(seconds=1) <= self.idle <= _MAX_IDLE:
            raise InvalidArgument("the idle time of what is to be purged must be from 1 second to 100 years")
        check_id(self.id)

    def fields(self) -> dict[str, Any]:
        """The order as JSON has it; of the target, what is None is not there."""
        target = {
            "session": self.session,
            "owner": self.owner,
            "idle_seconds": None if self.idle is None else self.idle.total_seconds(),
        }
        return {
            "purge": self.id,
            "target": {name: value for name, value in target.items() if value is not None},
            "scope": self.scope,
            "requested_by": self.requested_by,
            "reason": self.reason,
            "requested_at": self.requested_at.isoformat(timespec="milliseconds"),
        }


def place(services: Services, order: Order) -> Order:
    """Write an order down; from now on the worker sees that it is done, whoever began it. Repeatable.

    Returns the order of this id that was placed first, where it is for the same. Raises InvalidArgument where it is
    for something else.
    """
    placed = _finished(services, order.id)
    if placed is None:
        with suppress(ArchiveConflict):
            documents.put(services.archive, names.order_name(order.id), order.fields())
        try:
            placed = read(services, order.id)
        except PurgeNotFound:  # finished since
            placed = _finished(services, order.id) or order
    if (placed.session, placed.owner, placed.idle, placed.scope) != (
        order.session,
        order.owner,
        order.idle,
        order.scope,
    ):
        raise InvalidArgument(f"purge {order.id} is another one: it is of {placed.fields()['target']}, {placed.scope}")
    return placed


def _finished(services: Services, purge: str) -> Order | None:
    """The order of a purge that has its receipt."""
    with suppress(PurgeNotFound):
        return order_of(documents.read(services.archive, names.receipt_name(purge)), purge)
    return None


def read(services: Services, purge: str) -> Order:
    """An order that is not finished; raises PurgeNotFound and DocumentDamaged."""
    return order_of(documents.read(services.archive, names.order_name(purge)), purge)


def open_orders(services: Services) -> Iterator[str]:
    """The ids of the purges that are not finished, in the order of their ids."""
    for stored in services.archive.list(names.ORDERS):
        purge = stored.name.removeprefix(names.ORDERS).removesuffix(".json")
        if _ID.fullmatch(purge) and stored.name == names.order_name(purge):
            kept = stored.held or stored.retained_until is not None  # it may be there though it is finished
            if not kept or _finished(services, purge) is None:
                yield purge


def finish(services: Services, purge: str) -> None:
    """Take an order away whose receipt is written; where the archive keeps it, its receipt says that it is done."""
    for stored in services.archive.list(names.order_name(purge), generations=True):
        with suppress(ArchiveRefused):
            services.archive.delete(stored)


def order_of(fields: dict[str, Any], purge: str) -> Order:
    """The order that JSON describes; raises DocumentDamaged."""
    try:
        target = fields["target"]
        idle = target.get("idle_seconds")
        return Order(
            target.get("session"),
            target.get("owner"),
            None if idle is None else timedelta(seconds=idle),
            Scope(fields["scope"]),
            str(fields["requested_by"]),
            str(fields["reason"]),
            fields["purge"],
            datetime.fromisoformat(fields["requested_at"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        raise DocumentDamaged(f"what the archive has of purge {purge} is damaged: {exc}") from exc
