"""Announcements: Redis publishes when the first due moment of a shard changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, Self

import redis
import redis.cluster
import redis.exceptions

from torpor.history.errors import translate
from torpor.history.keys import Keyspace

# The most announcements that are read at once, so that a flood of them does not block the listener.
_AT_A_TIME = 1_000


class Announcements:
    """A subscription to all shards of a deployment. Announcements can get lost: only the due index is the truth.

    The scripts publish a moment (ms) to the channel that has the name of the shard's due key. A Cluster passes each
    announcement on to all its nodes. Not safe to share among threads.
    """

    def __init__(self, client: redis.Redis | redis.cluster.RedisCluster, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._subscription: Any = client.pubsub()

    def __enter__(self) -> Self:
        """Subscribe; raises RedisUnavailable or RedisRefused."""
        self._translated(lambda: self._subscription.psubscribe(self._keyspace.due_pattern))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscription.close()

    def wait(self, seconds: float) -> dict[int, float] | None:
        """Wait up to `seconds`; returns shard -> the earliest announced moment, in seconds of Redis's clock.

        None if the subscription has just begun, for the first time or after its connection was lost: announcements may
        have been missed before. Raises RedisUnavailable and RedisRefused.
        """
        received: dict[int, float] = {}
        for number in range(_AT_A_TIME):
            timeout = 0 if number else seconds
            message = self._translated(partial(self._subscription.get_message, timeout=timeout))
            if not message:
                break
            if message["type"] == "psubscribe":
                return None
            shard = self._keyspace.shard_of_channel(_bytes(message["channel"]))
            if shard is not None:
                received[shard] = min(received.get(shard, inf), _moment(message["data"]))
        return received

    def _translated(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as exc:
            raise translate(exc) from exc


def _moment(data: bytes | str) -> float:
    """The published moment in seconds; 0, which means 'look now', for anything else, because anybody can publish."""
    try:
        return float(data) / 1000
    except ValueError:
        return 0.0


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
