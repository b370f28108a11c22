"""Which records of a thread stay when it is pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torpor.history.records.record import Checkpoint, Name, Typed, Value, Writes, to_element
from torpor.history.records.thread import StoredCheckpoint, Thread

# In the metadata of a checkpoint: the channels of which only now and then a checkpoint has the value.
_DELTA_CHANNELS = "counters_since_delta_snapshot"


def latest_only(thread: Thread, metadata_of: Callable[[Typed], Any]) -> list[bytes]:
    """The elements of a thread that keeps the latest checkpoint of each namespace, oldest first.

    LangGraph computes the value of a delta channel from the writes of the ancestors, so these stay as far back as the
    last one that has the value. Writes whose checkpoint is still to come stay, too.
    """
    kept = {found.checkpoint.name: found for ns in thread.namespaces() for found in _chain(thread, ns, metadata_of)}
    records: list[Checkpoint | Writes] = []
    for name in sorted(kept, key=lambda name: name.id):
        records += [_whole(kept[name]), *kept[name].writes]
    records += thread.early_writes()
    return [to_element(record, at) for at, record in enumerate(records)]


def _chain(thread: Thread, ns: str, metadata_of: Callable[[Typed], Any]) -> Iterator[StoredCheckpoint]:
    """The latest checkpoint of a namespace, and the ancestors on which its delta channels depend."""
    latest = found = thread.get(thread.latest(ns))
    missing = set(metadata_of(latest.checkpoint.rest).get(_DELTA_CHANNELS) or ()) if latest else set()
    while found:
        yield found
        missing -= found.values.keys()
        parent = found.checkpoint.parent
        found = thread.get(Name(ns, parent)) if missing and parent else None


def _whole(stored: StoredCheckpoint) -> Checkpoint:
    """The checkpoint with all its values in its own record."""
    record = stored.checkpoint
    values = [Value(typed.data) for typed in stored.values.values()]
    channels = {channel: (typed.type, slot) for slot, (channel, typed) in enumerate(stored.values.items())}
    return Checkpoint(record.name, record.parent, record.rest, values, dict(channels))
