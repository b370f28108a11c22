"""Redis clients that note each command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
import redis.cluster


class Watched:
    """A client that notes each command, and calls `before` first."""

    def __init__(self, **options: Any) -> None:
        self.commands: list[str] = []
        self.before: Callable[[str], None] = lambda command: None
        super().__init__(**options)  # a Cluster's client asks for the commands at once
        self.commands.clear()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.commands.append(args[0])
        self.before(args[0])
        return super().execute_command(*args, **options)  # type: ignore[misc]

    def pipeline(self, *args: Any, **options: Any) -> Any:
        self.commands.append("a pipeline")
        self.before("a pipeline")
        return super().pipeline(*args, **options)  # type: ignore[misc]


class WatchedRedis(Watched, redis.Redis):
    """A watched client of a single node."""


class WatchedCluster(Watched, redis.cluster.RedisCluster):
    """A watched client of a Cluster."""
