"""Speaking: the elements of a transcript as a page shows them, cut so that no element makes a page large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from torpor.history.protocol import MessageCorrupt, is_record
from torpor.worker.transfer.speech import Speech, ToolCall, of_element

# Characters of one text, and of all texts of a page; when these are used up, a text has so few.
MOST_TEXT = 10_000
_MOST_OF_PAGE = 400_000
_LEAST_TEXT = 200
# Calls of tools of one message, and characters of the arguments of each.
MOST_CALLS = 20
_MOST_ARGUMENTS = 2_000
# Messages of one step of a graph.
_MOST_OF_STEP = 100
_MOST_KINDS, _MOST_NAME = 20, 200
# To decode a larger element may take ten times its memory. So many bytes of a page are decoded.
MOST_DECODED = 4 * 1024 * 1024
_MOST_DECODED_OF_PAGE = 16 * 1024 * 1024
# The bytes that the beginning of a text may have.
_BYTES_OF_CHARACTER = 4


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is JSON as text."""

    name: str
    arguments: str
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A message, or a step of a graph. `text` is its beginning, and `characters` are those of the whole text.

    `json_only`: it was not decoded, and `text` is the beginning of its JSON. `unread` says why it can't be read.
    """

    speaker: str
    role: str
    text: str = ""
    characters: int = 0
    kinds: Sequence[str] = ()
    calls: Sequence[Call] = ()
    more_calls: int = 0
    json_only: bool = False
    unread: str = ""

    @property
    def is_cut(self) -> bool:
        """True if there is more of the text."""
        return len(self.text) < self.characters


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a transcript at its position: what is said, of a step of a graph with its messages after it."""

    position: int
    size: int
    said: Said
    messages: Sequence[Said] = ()
    more_messages: int = 0


class Elements:
    """Makes the elements of one page, which share its limits."""

    def __init__(self) -> None:
        self._characters = _MOST_OF_PAGE
        self._bytes = _MOST_DECODED_OF_PAGE

    def of(self, elements: Iterable[bytes], first: int) -> Iterator[Element]:
        """The elements from position `first` on."""
        for position, element in enumerate(elements, first):
            yield self._element(position, element)

    def _element(self, position: int, element: bytes) -> Element:
        if len(element) > min(MOST_DECODED, self._bytes):
            return Element(position, len(element), self._large(element))
        self._bytes -= len(element)
        try:
            speeches = of_element(element)
            said = self._said(next(speeches))
            messages = [self._said(each) for each in islice(speeches, _MOST_OF_STEP)]
            more = sum(1 for _ in speeches)
        except MessageCorrupt as error:
            return Element(position, len(element), Said("unreadable", "unreadable", unread=str(error)))
        return Element(position, len(element), said, messages, more)

    def _large(self, element: bytes) -> Said:
        if is_record(element):
            return Said("a step of the graph", "large", unread="it is too large to be decoded here")
        start = element[: MOST_TEXT * _BYTES_OF_CHARACTER].decode(errors="replace")
        return Said("a large message", "large", self._cut(start), len(element), json_only=True)

    def _said(self, speech: Speech) -> Said:
        calls = speech.tool_calls
        return Said(
            speaker=speech.speaker[:_MOST_NAME],
            role=(speech.role or "unreadable")[:_MOST_NAME],
            text=self._cut(speech.text),
            characters=len(speech.text),
            kinds=[each[:_MOST_NAME] for each in speech.kinds[:_MOST_KINDS]],
            calls=[self._call(each) for each in calls[:MOST_CALLS]],
            more_calls=max(len(calls) - MOST_CALLS, 0),
        )

    def _call(self, call: ToolCall) -> Call:
        arguments = self._cut(call.arguments, _MOST_ARGUMENTS)
        return Call(call.name[:_MOST_NAME], arguments, is_cut=len(arguments) < len(call.arguments))

    def _cut(self, text: str, most: int = MOST_TEXT) -> str:
        kept = text[: max(min(most, self._characters), _LEAST_TEXT)]
        self._characters -= len(kept)
        return kept


def whole(element: bytes, *, as_json: bool) -> str:
    """All that an element says: its text, or its JSON; for a step of a graph what is readable of it.

    Raises MessageCorrupt if it has no such form.
    """
    if is_record(element):
        if len(element) > MOST_DECODED:
            raise MessageCorrupt(
                f"a step of {len(element):,} bytes is too large to be shown here; torpor export has it"
            )
        return (next(of_element(element)).json or b"").decode(errors="replace")
    if as_json or len(element) > MOST_DECODED:
        return element.decode(errors="replace")
    return next(of_element(element)).text
