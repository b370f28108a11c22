"""A record as bytes, and back.

    kind (1 byte: 1 checkpoint, 2 writes), at (4), length of ns (2), length of id (2), ns, id, then

    of a checkpoint:  number of values (2), number of channels (2),
                      for each value: after (4 + 2), end (4)      for each channel: where its value is (4 + 2)
                      the bytes of the values, then MessagePack: [parent, channels, types, type and bytes of the rest]
    of writes:        MessagePack: [task, path, [[index, channel, type, bytes], ...]]

Numbers are big-endian. `at` is the position that the record had in the list when it was written. A place is the
position of a record, counted in the same way, and the number of a value in it. Only their difference counts: the
distance between two records stays the same when records are restored, imported or copied. `end` is where the value's
bytes end, counted from the first value's.

A value can go on after another one: both are arrays of MessagePack, and it has only the elements that were added.
The first byte tells a record from a chat's element, which is JSON. The server fills in `at` when it writes the record.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import ormsgpack

from torpor.history.errors import InvalidArgument, MessageCorrupt

_HEAD = struct.Struct(">BIHH")
_LENGTHS = struct.Struct(">HH")
_COUNTS = struct.Struct(">HH")
_VALUE = struct.Struct(">IHI")
_PLACE = struct.Struct(">IH")
_NOWHERE = 0xFFFFFFFF
_NO_PLACE = (_NOWHERE, 0)
_MOST = 0xFFFF
# What a damaged record raises.
_DAMAGED = (struct.error, ValueError, TypeError, IndexError)


class Kind(IntEnum):
    """The first byte of a record."""

    CHECKPOINT = 1
    WRITES = 2


class Place(NamedTuple):
    """Where a value is: the position of a record, and the number of the value in it."""

    at: int
    slot: int


class Typed(NamedTuple):
    """A value as LangGraph's serializer gives it: its type and its bytes."""

    type: str
    data: bytes


class Name(NamedTuple):
    """A checkpoint of a thread: its namespace and its id."""

    ns: str
    id: str


@dataclass(frozen=True, slots=True)
class Value:
    """The bytes of a value; with `after`, what was appended to the value there."""

    data: bytes = field(repr=False)
    after: Place | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint. `rest` is the checkpoint without its values, and its metadata.

    `channels` has the type of each channel's value, and its place; a place without a position is in this record.
    """

    name: Name
    parent: str | None
    rest: Typed = field(repr=False)
    values: Sequence[Value] = ()
    channels: dict[str, tuple[str, Place | int]] = field(default_factory=dict)
    at: int = 0

    @property
    def payload(self) -> bytes:
        """The bytes after `at`."""
        pieces = [_named(self.name), _COUNTS.pack(len(self.values), len(self.channels))]
        end = 0
        for value in self.values:
            end += len(value.data)
            at, slot = value.after or _NO_PLACE
            pieces.append(_VALUE.pack(at, slot, end))
        kinds = []
        for kind, place in self.channels.values():
            kinds.append(kind)
            at, slot = (_NOWHERE, place) if isinstance(place, int) else place
            pieces.append(_PLACE.pack(at, slot))
        pieces += [value.data for value in self.values]
        pieces.append(ormsgpack.packb([self.parent, list(self.channels), kinds, *self.rest]))
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Write:
    """One write of a task. A negative index is that of an error, an interrupt or a resume."""

    index: int
    channel: str
    value: Typed = field(repr=False)


@dataclass(frozen=True, slots=True)
class Writes:
    """What a task has written after a checkpoint, in one call."""

    name: Name
    task: str
    path: str
    writes: Sequence[Write] = ()

    @property
    def payload(self) -> bytes:
        """The bytes after `at`."""
        packed = [[each.index, each.channel, *each.value] for each in self.writes]
        return _named(self.name) + ormsgpack.packb([self.task, self.path, packed])


Record = Checkpoint | Writes


def kind_of(record: Record) -> Kind:
    """The first byte of a record's element."""
    return Kind.CHECKPOINT if isinstance(record, Checkpoint) else Kind.WRITES


def to_element(record: Record, at: int) -> bytes:
    """The element of a record that stands at this position of its list."""
    return b"%c%b%b" % (kind_of(record), at.to_bytes(4, "big"), record.payload)


def from_element(element: bytes) -> Record:
    """The record of an element; raises MessageCorrupt for any other bytes."""
    try:
        kind, at, ns_length, id_length = _HEAD.unpack_from(element)
        name_end = _HEAD.size + ns_length + id_length
        ns, identity = element[_HEAD.size : _HEAD.size + ns_length], element[_HEAD.size + ns_length : name_end]
        name = Name(ns.decode(), identity.decode())
        if kind == Kind.CHECKPOINT:
            return _checkpoint(element, name, at, name_end)
        if kind == Kind.WRITES:
            task, path, writes = ormsgpack.unpackb(element[name_end:])
            return Writes(name, task, path, [Write(index, channel, Typed(*typed)) for index, channel, *typed in writes])
    except _DAMAGED as exc:
        raise MessageCorrupt(f"a stored element of {len(element):,} bytes is a damaged record of a thread") from exc
    raise MessageCorrupt(f"a stored element of {len(element):,} bytes is no record of a LangGraph thread")


def _checkpoint(element: bytes, name: Name, at: int, tables: int) -> Checkpoint:
    value_count, channel_count = _COUNTS.unpack_from(element, tables)
    places = tables + _COUNTS.size + value_count * _VALUE.size
    begin = places + channel_count * _PLACE.size
    rows = list(_VALUE.iter_unpack(element[tables + _COUNTS.size : places]))
    ends = [begin, *(begin + end for _, _, end in rows)]
    pieces = [element[first:last] for first, last in pairwise(ends)]
    values = [
        Value(data, None if after == _NOWHERE else Place(after, slot))
        for data, (after, slot, _) in zip(pieces, rows, strict=True)
    ]
    found = [
        slot if position == _NOWHERE else Place(position, slot)
        for position, slot in _PLACE.iter_unpack(element[places:begin])
    ]
    parent, channels, types, *rest = ormsgpack.unpackb(element[ends[-1] :])
    typed = zip(types, found, strict=True)
    return Checkpoint(name, parent, Typed(*rest), values, dict(zip(channels, typed, strict=True)), at)


def _named(name: Name) -> bytes:
    ns, identity = name.ns.encode(), name.id.encode()
    if max(len(ns), len(identity)) > _MOST:
        raise InvalidArgument(f"a namespace and a checkpoint's id have {_MOST:,} bytes of UTF-8 at most")
    return _LENGTHS.pack(len(ns), len(identity)) + ns + identity
