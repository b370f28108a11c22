"""Adoption of messages that another library has in JSON documents, one a message: find, look at and take them.

Taken documents are a list, as those of any other library, and `adoption.py` has what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from torpor.history.adoption import too_large
from torpor.history.calls.adoption import idle_of
from torpor.history.calls.call import Call
from torpor.history.formats.glob import escaped
from torpor.history.formats.layout import Layout
from torpor.history.keys import adopting_key
from torpor.history.scripts import script

# How many keys a step of a walk looks at.
_STEP = 1_000


def find_documents(
    namespace: str, session_id: str, layout: Layout, cursor: bytes
) -> Call[tuple[bytes, dict[bytes, float]]]:
    """Find documents of a session, each with its time (s); the cursor is b"" to begin, and b"0" at the end."""
    key = layout.key(session_id)

    def decode(reply: Any) -> tuple[bytes, dict[bytes, float]]:
        cursor, *found = reply
        return cursor, dict(zip(found[::2], map(float, found[1::2]), strict=True))

    return Call(
        script("find_documents"),
        [adopting_key(namespace, key)],
        [
            layout.prefix.encode(),
            session_id.encode(),
            layout.query(session_id),
            layout.stored_pattern(escaped(session_id.encode()).decode()),
            cursor,
            _STEP,
        ],
        decode,
    )


def peek_documents(
    session_id: str,
    layout: Layout,
    documents: Sequence[bytes],
    start: int,
    *,
    page_bytes: int,
    max_bytes: int,
) -> Call[tuple[timedelta | None, list[bytes]]]:
    """Look at documents, of which the first is message `start`: what is left of their TTL, and the messages.

    A message whose document is gone is empty. Raises NotAdoptable for a message of more than `max_bytes`.
    """
    key = layout.key(session_id)

    def decode(reply: Any) -> tuple[timedelta | None, list[bytes]]:
        if reply[0] == b"large":
            raise too_large(key, start + int(reply[1]), max_bytes)
        ttl, *messages = reply
        return idle_of(int(ttl)), messages

    return Call(script("peek_documents"), documents, [page_bytes, max_bytes], decode)


def take_documents(
    namespace: str, session_id: str, layout: Layout, token: str, documents: Sequence[bytes]
) -> Call[bool]:
    """Take documents, oldest first; False if one of them is gone, or if messages are taken already."""
    key = layout.key(session_id)
    return Call(script("take_documents"), [adopting_key(namespace, key), *documents], [token.encode()], bool)
