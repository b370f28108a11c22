"""A thread as its records make it up: its checkpoints with their values and the writes of their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from torpor.history.elements import is_record
from torpor.history.errors import KindMismatch, MessageCorrupt
from torpor.history.records.record import Checkpoint, Name, Place, Typed, Write, Writes, from_element
from torpor.history.records.values import joined


@dataclass(frozen=True, slots=True)
class Pending:
    """A write that counts, and its task."""

    task: str
    write: Write


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint with the value of each channel, and the records of what its tasks have written, oldest first."""

    checkpoint: Checkpoint
    values: dict[str, Typed] = field(repr=False)
    writes: Sequence[Writes] = ()

    def pending(self) -> list[Pending]:
        """The writes that count, in the order in which LangGraph applies them: by path, task and index.

        Of two writes of a task with the same index the first one counts, with a negative index the last one.
        """
        found: dict[tuple[str, int], tuple[str, Write]] = {}
        for record in self.writes:
            for write in record.writes:
                if write.index < 0 or (record.task, write.index) not in found:
                    found[record.task, write.index] = record.path, write
        ordered = sorted((path, task, index) for (task, index), (path, _) in found.items())
        return [Pending(task, found[task, index][1]) for _, task, index in ordered]


class Thread:
    """All records of a thread, oldest first.

    Raises KindMismatch for the elements of a chat, and MessageCorrupt for a damaged record.
    """

    def __init__(self, session_id: str, elements: Iterable[bytes]) -> None:
        self.session_id = session_id
        self._positions: dict[Name, int] = {}
        self._checkpoints: dict[int, Checkpoint] = {}
        self._writes: dict[Name, list[Writes]] = {}
        self._joined: dict[tuple[int, int], bytes] = {}
        for position, element in enumerate(elements):
            self._add(position, element)

    def _add(self, position: int, element: bytes) -> None:
        if not is_record(element):
            raise KindMismatch(f"session {self.session_id!r} is a chat, and no LangGraph thread")
        record = from_element(element)
        if isinstance(record, Checkpoint):
            self._checkpoints[position] = record
            self._positions[record.name] = position
        else:
            self._writes.setdefault(record.name, []).append(record)

    def namespaces(self) -> list[str]:
        """The namespaces that have checkpoints, in the order in which they began."""
        return list(dict.fromkeys(name.ns for name in self._positions))

    def names(self) -> list[Name]:
        """The checkpoints, newest first in each namespace."""
        of_each = (
            sorted((name for name in self._positions if name.ns == ns), reverse=True) for ns in self.namespaces()
        )
        return [name for names in of_each for name in names]

    def latest(self, ns: str) -> Name:
        """The latest checkpoint of a namespace that has one: that with the highest id."""
        return max(name for name in self._positions if name.ns == ns)

    def early_writes(self) -> list[Writes]:
        """The writes that came before their checkpoints, which are not there yet."""
        return [each for name, records in self._writes.items() if name not in self._positions for each in records]

    def get(self, name: Name) -> StoredCheckpoint | None:
        """A checkpoint; None if there is none of this name."""
        position = self._positions.get(name)
        if position is None:
            return None
        checkpoint = self._checkpoints[position]
        values = {
            channel: Typed(kind, self._value(position, place)) for channel, (kind, place) in checkpoint.channels.items()
        }
        return StoredCheckpoint(checkpoint, values, self._writes.get(name, []))

    def _value(self, position: int, place: Place | int) -> bytes:
        """The bytes of a value, from its parts in this and in earlier records."""
        places, parts = [], []
        for each in self._places(position, place):
            places.append(each)
            if known := self._joined.get(each):
                parts.append(known)
                break
            parts.append(self._checkpoints[each[0]].values[each[1]].data)
        self._joined[places[0]] = value = joined(parts)
        return value

    def _places(self, position: int, place: Place | int | None) -> Iterator[tuple[int, int]]:
        """The positions and slots of a value's parts, newest first."""
        while place is not None:
            at, slot = (position, place) if isinstance(place, int) else self._earlier(position, place)
            yield at, slot
            position, place = at, self._checkpoints[at].values[slot].after

    def _earlier(self, position: int, place: Place) -> tuple[int, int]:
        """The position and the slot that a place in the record at `position` leads to."""
        at = position - (self._checkpoints[position].at - place.at)
        found = self._checkpoints.get(at)
        if not (0 <= at < position and found and place.slot < len(found.values)):
            raise MessageCorrupt(f"record {position} of thread {self.session_id!r} refers to a value that is not there")
        return at, place.slot
