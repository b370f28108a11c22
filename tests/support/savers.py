"""Savers of LangGraph over each kind of client, with the same blocking methods for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

from support.servers import RedisServer
from torpor import MemorystoreSaver


def config(thread: str = "s", ns: str = "", checkpoint_id: str | None = None, **named: Any) -> RunnableConfig:
    """A config that names a thread, a namespace and perhaps a checkpoint."""
    which = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **which, **named}}


def checkpoint(values: dict[str, Any], versions: dict[str, Any], **given: Any) -> Any:
    """A checkpoint with a new id."""
    return {
        "v": 2,
        "id": str(uuid6(clock_seq=0)),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {"node": {"messages": 1}},
        "updated_channels": None,
        **given,
    }


def seen(tuples: Sequence[CheckpointTuple | None]) -> list[Any]:
    """What a caller sees of some tuples, in an order of their own for each namespace."""
    named = [(each.config["configurable"], each) for each in tuples if each]
    found = [
        (
            where["checkpoint_ns"],
            where["checkpoint_id"],
            each.checkpoint,
            each.metadata,
            each.parent_config and each.parent_config["configurable"]["checkpoint_id"],
            each.pending_writes,
        )
        for where, each in named
    ]
    return sorted(found, key=lambda each: each[0])


class AnySaver:
    """A saver whose methods block, also with a client of asyncio."""

    def __init__(self, saver: MemorystoreSaver, runner: asyncio.Runner | None = None) -> None:
        self.saver = saver
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        runner = self._runner
        if runner is None:
            return getattr(self.saver, name)
        return lambda *args, **options: runner.run(getattr(self.saver, f"a{name}")(*args, **options))

    def list(self, *args: Any, **options: Any) -> list[CheckpointTuple]:
        if self._runner is None:
            return [*self.saver.list(*args, **options)]

        async def collected() -> list[CheckpointTuple]:
            return [each async for each in self.saver.alist(*args, **options)]

        return self._runner.run(collected())


@contextmanager
def asyncio_saver(server: RedisServer, **options: Any) -> Iterator[AnySaver]:
    """A saver with a client of asyncio, which lives as long as its event loop."""
    with asyncio.Runner() as runner:

        async def made() -> Any:
            return server.asyncio_client()

        client = runner.run(made())
        yield AnySaver(MemorystoreSaver(client, **options), runner)
        runner.run(client.aclose())
