"""Cursor: the place of a session in a list, as text from which the next page of the list begins."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from torpor.history.protocol import InvalidArgument, check_session_id

_TEXT = re.compile(r"(awake|asleep|owned)\.([A-Za-z0-9_=-]+)")


class Stretch(StrEnum):
    """A part of a list: it has an order of its own."""

    AWAKE = "awake"  # shard by shard, in each by id
    ASLEEP = "asleep"  # in the order of the folders of the archive
    OWNED = "owned"  # by id


@dataclass(frozen=True, slots=True)
class Cursor:
    """The list was given up to this session, which it may have lost since."""

    stretch: Stretch
    session_id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor of `str(cursor)`; raises InvalidArgument."""
        match = _TEXT.fullmatch(text)
        try:
            if match:
                return cls(Stretch(match[1]), check_session_id(urlsafe_b64decode(match[2]).decode()))
        except ValueError as exc:
            raise InvalidArgument(f"{text!r} is not a cursor: {exc}") from exc
        raise InvalidArgument(f"{text!r} is not a cursor: a list of sessions gives one")

    def __str__(self) -> str:
        return f"{self.stretch}.{urlsafe_b64encode(self.session_id.encode()).decode()}"
