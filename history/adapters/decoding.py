"""Decoding a page of elements: one that is corrupt does not keep the others from being read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from torpor.history.elements import Shape, is_record, shape
from torpor.history.errors import KindMismatch, MessageCorrupt
from torpor.history.session import Page

T = TypeVar("T")

log = logging.getLogger("history.adapters")


def decode_page(page: Page, session_id: str, decode: Callable[[bytes], T], own: Shape) -> list[T]:
    """The page's messages or items, without the corrupt ones; a warning in the log names their positions.

    Raises MessageCorrupt, which names the position, for an element that has the shape of the other framework's, and
    KindMismatch for a LangGraph thread: the session is read by the wrong class.
    """
    with suppress(MessageCorrupt):
        return list(map(decode, page.messages))
    decoded: list[T] = []
    corrupt: list[int] = []
    for position, element in enumerate(page.messages, page.start):
        if is_record(element):
            raise KindMismatch(f"session {session_id!r} is a LangGraph thread: MemorystoreSaver reads it")
        try:
            decoded.append(decode(element))
        except MessageCorrupt as exc:
            if shape(element) not in (own, None):
                raise MessageCorrupt(f"{own} {position} of session {session_id!r}: {exc}") from exc
            corrupt.append(position)
    if corrupt:
        log.warning(
            "session %r: %s can't be read and is left out; torpor show prints the others, torpor export has all bytes",
            session_id,
            f"{own} {', '.join(map(str, corrupt))}",
        )
    return decoded
