"""The adoption of a session that another library has written, as plain data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from torpor.history.errors import MessageCorrupt, NotAdoptable
from torpor.history.formats.known import recorded
from torpor.history.formats.layout import Layout


@dataclass(frozen=True, slots=True)
class Look:
    """A page of another library's messages of a session, as JSON bytes, oldest first.

    `token` names the list that was taken for an adoption; None if none was taken yet. `ttl` is the time that was left
    to that library's key.
    """

    token: str | None
    total: int
    ttl: timedelta | None
    start: int
    messages: Sequence[bytes] = field(repr=False)

    @property
    def stop(self) -> int:
        """The position after the last message of this page."""
        return self.start + len(self.messages)


@dataclass(frozen=True, slots=True)
class Adoptable:
    """A session that can be adopted: how many messages it has, and the oldest and the newest as JSON bytes.

    `converted` has the kinds of messages that will be converted, each with how many there are.
    """

    total: int
    first: bytes = field(repr=False)
    last: bytes = field(repr=False)
    converted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adoption:
    """An adoption that has begun: the first `written` messages of the list taken under `token` are in the session.

    While the token is None, no message is written. `owner` is the session's, as whoever began the adoption named it:
    another process that finishes it writes the messages with the same owner.
    """

    session_id: str
    layout: Layout
    name: str
    token: str | None = None
    written: int = 0
    since_ms: int = 0
    owner: str | None = None

    @classmethod
    def new(cls, session_id: str, layout: Layout, owner: str | None = None) -> Self:
        """A new adoption, whose random name distinguishes it from all others."""
        return cls(session_id, layout, os.urandom(8).hex(), owner=owner)

    @classmethod
    def parse(cls, session_id: str, value: bytes) -> Self:
        """The adoption that is recorded in Redis as `value`, which `bytes` makes; raises MessageCorrupt."""
        try:
            since, _, state = value.partition(b":")
            name, prefix, newest_first, token, written, *further = json.loads(state)
            owner, elements = further + [None, Layout.elements][len(further) :]
            layout = recorded(elements, prefix, newest_first=newest_first)
            _moment(int(since))  # raises if there is no such moment
            return cls(session_id, layout, name, token, int(written), int(since), owner)
        except (ValueError, TypeError, OverflowError, OSError) as exc:
            raise MessageCorrupt(f"the record of the adoption of session {session_id!r} is damaged: {exc}") from exc

    @property
    def since(self) -> datetime:
        """The time of its beginning, by Redis's clock."""
        return _moment(self.since_ms)

    @property
    def key(self) -> str:
        """The other library's key."""
        return self.layout.key(self.session_id).decode()

    @property
    def state(self) -> bytes:
        """The record without the time of its beginning, which Redis puts before it."""
        layout = self.layout
        further = [self.owner, layout.elements] if layout.elements != Layout.elements else [self.owner]
        known = [] if further == [None] else further  # as older versions write and read it
        return json.dumps([self.name, layout.prefix, layout.newest_first, self.token, self.written, *known]).encode()

    def __bytes__(self) -> bytes:
        return b"%d:%b" % (self.since_ms, self.state)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def too_large(key: bytes, position: int, max_bytes: int) -> NotAdoptable:
    """The error for a message that is above the limit."""
    reason = f"a message has more than {max_bytes:,} bytes (max_message_bytes, TORPOR_MAX_MESSAGE_BYTES)"
    return NotAdoptable(key, reason, f"message {position}: ")
