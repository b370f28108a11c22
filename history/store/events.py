"""What has happened in a deployment: the stream of events, and the health of the archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from torpor.history import calls
from torpor.history.errors import RedisRefused
from torpor.history.keys import events_key
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.operation import Operation
from torpor.history.store.sending import naming_key


class Events(BlockingRunner):
    """Reads the deployment's stream of events, and the archive's health."""

    archive_health = Operation(calls.archive_health)

    def last_events(self, count: int) -> list[tuple[str, dict[str, str]]]:
        """The stream's last events with their ids, oldest first."""
        with self._reading() as key:
            found: Any = self._client.xrevrange(key, count=count)
        return [_event(each) for each in reversed(found)]

    def events_after(self, last: str, *, seconds: float) -> list[tuple[str, dict[str, str]]]:
        """The events after the one with the id `last`, "0" for all; waits up to `seconds` for the first."""
        with self._reading() as key:
            streams: Any = self._client.xread({key: last}, block=int(seconds * 1000))
        # RESP3: {stream: [events]}, RESP2: [[stream, events]]; https://redis.io/docs/latest/commands/xread
        by_stream = streams.values() if isinstance(streams, dict) else [[events] for _, events in streams or ()]
        found = chain.from_iterable(by_stream)
        return [_event(event) for events in found for event in events]

    @contextmanager
    def _reading(self) -> Iterator[bytes]:
        key = events_key(self._namespace)
        try:
            with self._kind.translated:
                yield key
        except RedisRefused as error:
            raise naming_key([key], error) from error.__cause__


def _event(found: tuple[bytes | str, dict[bytes | str, bytes | str]]) -> tuple[str, dict[str, str]]:
    identity, fields = found
    return _text(identity), {_text(name): _text(value) for name, value in fields.items()}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
