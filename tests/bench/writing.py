"""Measures writing a turn: a session has ten of them, because it remembers the requests of its last minute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
import redis.asyncio

from bench.chats import ours, session_ids, turn
from bench.harness import Bench, Reach, Row, Side, Sides, each_of
from bench.rivals import peer_class
from torpor import MemorystoreChatMessageHistory

TTL = 3_600
TURNS = 10


def _histories(client: Any, count: int) -> list[MemorystoreChatMessageHistory]:
    return [MemorystoreChatMessageHistory(client, each, TTL, owner=f"user-{each}") for each in session_ids(count)]


def _peers(client: redis.Redis, count: int) -> list[Any]:
    return [peer_class()(client, each, ttl=TTL) for each in session_ids(count)]


@contextmanager
def turns(bench: Bench) -> Iterator[Sides]:
    """A blocking client."""
    said = turn()
    ready = ours(said)
    sessions = bench.size(40, 10)

    with bench.client() as client:

        def microseconds(acts: Sequence[Callable[[], object]]) -> float:
            taken = bench.clock.seconds(each_of(act for act in acts for _ in range(TURNS)))
            client.flushall()
            return taken / sessions / TURNS * 1e6

        yield Sides(
            ours=lambda: microseconds([partial(each.add_messages, said) for each in _histories(client, sessions)]),
            peer=lambda: microseconds([partial(each.add_messages, said) for each in _peers(client, sessions)]),
            floor=lambda: microseconds([partial(client.rpush, each, *ready) for each in session_ids(sessions)]),
        )


@contextmanager
def awaited_turns(bench: Bench) -> Iterator[Sides]:
    """A client of asyncio; the peer has none and runs its blocking one in a thread."""
    said = turn()
    sessions = bench.size(40, 10)

    async def each_turn(histories: Sequence[Any]) -> None:
        for history in histories:
            for _ in range(TURNS):
                await history.aadd_messages(said)

    with bench.client() as client, asyncio.Runner() as runner:

        def microseconds(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
            taken = bench.clock.seconds(lambda: runner.run(work()))
            client.flushall()
            return taken / sessions / TURNS * 1e6

        waiting = redis.asyncio.Redis(port=bench.server.port)
        yield Sides(
            ours=lambda: microseconds(partial(each_turn, _histories(waiting, sessions))),
            peer=lambda: microseconds(partial(each_turn, _peers(client, sessions))),
        )
        runner.run(waiting.aclose())


_PEER = "the peer's class with a ttl: RPUSH and EXPIRE, for each of the two messages"

ROWS = [
    Row(
        "write",
        "write a turn (60 + 600 characters) with all metadata",
        "µs",
        turns,
        [Reach(0.33, Side.PEER, stretch=0.25), Reach(1.5, Side.FLOOR)],
        ours="`add_messages` with ttl and owner; ten turns a session",
        peer=_PEER,
        floor="one RPUSH of ready bytes by redis-py",
        why="Torpor's own Python takes 16 µs, 6 of them to write the JSON. redis-py's takes 39: it packs 24 arguments "
        "(the floor has four), takes a connection and gives it back, and measures. The script takes 20 µs in a hot "
        "cache and 37 between other work: it reads and writes the metadata, the list and the index, where the "
        "floor has one RPUSH.",
        short=True,
    ),
    Row(
        "write-async",
        "the same, client of asyncio",
        "µs",
        awaited_turns,
        [Reach(0.33, Side.PEER)],
        ours="`aadd_messages`",
        peer="the peer's `aadd_messages`, which has its blocking client work in a thread",
        why="The event loop turns three times for a round trip, and redis-py packs in Python here, while the blocking "
        "client has hiredis.",
        short=True,
    ),
]
