"""The values of which a saver knows where Redis has them, so that it need not send them again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from torpor.history.records.record import Place, Typed

# What a thread takes beside its values.
_THREAD_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class KnownValue:
    """The value of a channel in a version, its place, and how many earlier records it goes on after."""

    version: str | float | None
    typed: Typed = field(repr=False)
    place: Place
    depth: int


class Known(NamedTuple):
    """What is known of a namespace of a thread: its values by channel, and the state and length as in KnownThread."""

    state: str
    length: int
    values: dict[str, KnownValue]


@dataclass(slots=True)
class KnownThread:
    """The known values of a thread by namespace and channel. Their places count in one `state` of the thread.

    `length` is the highest number of records that was seen in that state.
    """

    state: str
    length: int = 0
    values: dict[tuple[str, str], KnownValue] = field(default_factory=dict)
    size: int = _THREAD_BYTES

    def add(self, key: tuple[str, str], value: KnownValue) -> None:
        """Know this value in place of the one that was known before."""
        before = self.values.get(key)
        self.size += len(value.typed.data) - (len(before.typed.data) if before else 0)
        self.values[key] = value


class KnownValues:
    """The known values of the threads that were used last, up to `limit` bytes. Safe to share among threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threads: OrderedDict[str, KnownThread] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def of(self, session_id: str, ns: str) -> Known:
        """What is known of a namespace of a thread."""
        with self._lock:
            thread = self._threads.get(session_id)
            if thread is None:
                return Known("", 0, {})
            values = {channel: value for (of_ns, channel), value in thread.values.items() if of_ns == ns}
            return Known(thread.state, thread.length, values)

    def length(self, session_id: str) -> int:
        """The highest number of records of a thread that was seen."""
        thread = self._threads.get(session_id)
        return thread.length if thread else 0

    def add(self, session_id: str, ns: str, state: str, length: int, values: dict[str, KnownValue]) -> None:
        """Know these values of a namespace by channel. In another state than before, the others are forgotten."""
        with self._lock:
            thread = self._forgotten(session_id)
            if thread is None or thread.state != state:
                thread = KnownThread(state)
            thread.length = max(thread.length, length)
            for channel, value in values.items():
                thread.add((ns, channel), value)
            self._threads[session_id] = thread
            self._size += thread.size
            while self._size > self._limit and self._threads:
                self._size -= self._threads.popitem(last=False)[1].size

    def forget(self, session_id: str) -> None:
        """Know nothing of a thread any more."""
        with self._lock:
            self._forgotten(session_id)

    def _forgotten(self, session_id: str) -> KnownThread | None:
        thread = self._threads.pop(session_id, None)
        self._size -= thread.size if thread else 0
        return thread
