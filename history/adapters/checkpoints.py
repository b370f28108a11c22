"""LangGraph's checkpoints as records and back: which values are sent, and which are known to be in Redis."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from torpor.history.adapters.known_values import KnownValue
from torpor.history.adapters.reading import ValueReader
from torpor.history.adapters.targets import Target
from torpor.history.adapters.writing import write_value
from torpor.history.calls import CheckpointReply
from torpor.history.errors import MessageCorrupt
from torpor.history.records.record import Checkpoint, Name, Place, Typed, Value, Write, Writes, from_element
from torpor.history.records.thread import StoredCheckpoint
from torpor.history.records.values import appended, joined

# A value of so many bytes is stored in each checkpoint, because a reference would save nothing.
_SMALL_BYTES = 64
# A value that goes on after so many others is stored whole again, so that a read need not look at more records.
_MOST_PARTS = 1_000
# Versions below are counted by somebody else, and two forks may share one.
_FIRST_VERSION = 1 << 24


@dataclass(slots=True)
class Draft:
    """A checkpoint that is being made into a record.

    `new` has the values that it brings: the channel, its version, type and bytes, the slot, and how many earlier
    records the value goes on after.
    """

    known: dict[str, KnownValue]
    values: list[Value] = field(default_factory=list)
    channels: dict[str, tuple[str, Place | int]] = field(default_factory=dict)
    new: list[tuple[str, Any, Typed, int, int]] = field(default_factory=list)
    refers: bool = False

    def refer(self, channel: str, known: KnownValue) -> None:
        """Leave a value where it is."""
        self.channels[channel] = known.typed.type, known.place
        self.refers = True

    def add(self, channel: str, version: Any, typed: Typed) -> None:
        """Store a value, or what was appended to the known one."""
        known = self.known.get(channel) if len(typed.data) > _SMALL_BYTES else None
        if known and known.typed == typed:
            self.refer(channel, known)
            return
        more = appended(known.typed, typed) if known and known.depth < _MOST_PARTS else None
        slot, depth = len(self.values), known.depth + 1 if known and more is not None else 0
        self.channels[channel] = typed.type, slot
        if known and more is not None:
            self.values.append(Value(more, known.place))
            self.refers = True
        else:
            self.values.append(Value(typed.data))
        if len(typed.data) > _SMALL_BYTES:
            self.new.append((channel, version, typed, slot, depth))

    def known_at(self, position: int) -> dict[str, KnownValue]:
        """The values that are known once the record stands at this position."""
        return {
            channel: KnownValue(version, typed, Place(position, slot), depth)
            for channel, version, typed, slot, depth in self.new
        }


def draft(
    serde: SerializerProtocol, checkpoint: Any, new_versions: ChannelVersions, known: dict[str, KnownValue]
) -> Draft:
    """Decide for each value of a checkpoint whether it is sent, in part or whole, or is known to be in Redis."""
    made = Draft(known)
    versions: ChannelVersions = checkpoint["channel_versions"]
    for channel, value in checkpoint["channel_values"].items():
        if channel not in versions:
            continue
        version = versions[channel]
        there = known.get(channel)
        if there and channel not in new_versions and there.version == version and _is_unique(version):
            made.refer(channel, there)
        else:
            made.add(channel, version, write_value(serde, value))
    return made


def to_record(name: Name, parent: str | None, rest: Typed, made: Draft) -> Checkpoint:
    """The record of a checkpoint."""
    return Checkpoint(name, parent, rest, made.values, made.channels)


def to_writes(serde: SerializerProtocol, name: Name, writes: Iterable[tuple[str, Any]], task: str, path: str) -> Writes:
    """The record of a task's writes; errors, interrupts and resumes have LangGraph's own, negative indexes."""
    packed = [
        Write(WRITES_IDX_MAP.get(channel, number), channel, write_value(serde, value))
        for number, (channel, value) in enumerate(writes)
    ]
    return Writes(name, task, path, packed)


def from_reply(
    reply: CheckpointReply, asked: Sequence[KnownValue]
) -> tuple[StoredCheckpoint, dict[str, KnownValue]] | None:
    """A checkpoint that was read, and its large values as known ones, without versions; None if there is none.

    `asked` are the values whose places the read was given.
    """
    if reply.element is None or reply.position is None:
        return None
    checkpoint = from_element(reply.element)
    if not isinstance(checkpoint, Checkpoint):
        raise MessageCorrupt("a record of writes stands where a checkpoint should be")
    moved = reply.position - checkpoint.at
    values = {
        channel: _value(checkpoint, channel, moved, parts, asked)
        for channel, parts in zip(checkpoint.channels, reply.parts, strict=True)
    }
    known = {channel: value for channel, value in values.items() if len(value.typed.data) > _SMALL_BYTES}
    writes = [each for each in map(from_element, reply.writes) if isinstance(each, Writes)]
    return StoredCheckpoint(checkpoint, {channel: value.typed for channel, value in values.items()}, writes), known


def _value(
    checkpoint: Checkpoint, channel: str, moved: int, earlier: list[bytes | int], asked: Sequence[KnownValue]
) -> KnownValue:
    """The value of a channel, from its part in the checkpoint, its parts in earlier records, and the known rest.

    `moved`: how far the checkpoint is from the position that stands in it.
    """
    kind, place = checkpoint.channels[channel]
    at, slot = (checkpoint.at, place) if isinstance(place, int) else place
    there = Place(at + moved, slot)
    parts = [part for part in earlier if isinstance(part, bytes)]
    rest = next((asked[part - 1] for part in earlier if isinstance(part, int)), None)
    if rest and rest.place == there:
        return rest
    if not all(parts):
        raise MessageCorrupt(f"checkpoint {checkpoint.name.id} refers to a value that is not there")
    if isinstance(place, int):
        parts.insert(0, checkpoint.values[place].data)
    if rest:
        parts.append(rest.typed.data)
    depth = len(parts) - 1 + (rest.depth if rest else 0)
    return KnownValue(None, Typed(kind, joined(parts)), there, depth)


def to_tuple(
    serde: SerializerProtocol,
    reader: ValueReader,
    target: Target,
    stored: StoredCheckpoint,
    again: Container[str] = (),
) -> CheckpointTuple:
    """A checkpoint as LangGraph has it; `again` are the channels that are not read for the first time.

    Raises MessageCorrupt for a checkpoint that `serde` can't read.
    """
    record = stored.checkpoint
    try:
        light, metadata = serde.loads_typed(record.rest)
        light["channel_values"] = {
            channel: reader.read(typed, again=channel in again) for channel, typed in stored.values.items()
        }
        pending = [(each.task, each.write.channel, serde.loads_typed(each.write.value)) for each in stored.pending()]
    except NotImplementedError as exc:
        raise MessageCorrupt(
            f"checkpoint {record.name.id} of thread {target.session_id!r} was written by another serializer than "
            f"this saver's serde: {exc}"
        ) from exc
    parent = None if record.parent is None else target.config(Name(record.name.ns, record.parent))
    return CheckpointTuple(target.config(record.name), light, metadata, parent, pending)


def _is_unique(version: Any) -> bool:
    """True if no other value can have this version, because chance is part of it."""
    return isinstance(version, int) and version >= _FIRST_VERSION
