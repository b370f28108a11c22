"""Measures `.messages`, which also counts as activity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.messages import BaseMessage

from bench.chats import ours, plain, rich
from bench.harness import Bench, Reach, Row, Setup, Side, Sides, each_of
from bench.rivals import peer_class
from torpor import MemorystoreChatMessageHistory


def _reads(make: Callable[[int], Sequence[BaseMessage]], count: int) -> Setup:
    @contextmanager
    def reads(bench: Bench) -> Iterator[Sides]:
        said = make(count)
        times = bench.size(max(10, 3_000 // count), 5)

        with bench.client() as client:
            history = MemorystoreChatMessageHistory(client, "ours", 3_600, owner="ann")
            history.add_messages(said)
            peer: Any = peer_class()(client, "peer", ttl=3_600)
            peer.add_messages(said)
            client.rpush("floor", *ours(said))
            assert history.messages == peer.messages == said

            def microseconds(read: Callable[[], object]) -> float:
                return bench.clock.seconds(each_of([read] * times)) / times * 1e6

            yield Sides(
                ours=lambda: microseconds(lambda: history.messages),
                peer=lambda: microseconds(lambda: peer.messages),
                floor=lambda: microseconds(lambda: client.lrange("floor", 0, -1)),
            )

    return reads


_OURS = "`.messages`, which counts as activity"
_PEER = "the peer's `.messages`, which does not touch the session"
_FLOOR = "LRANGE of the bytes"

ROWS = [
    Row(
        "read-plain",
        "`.messages`, 1,000 messages, plain",
        "µs",
        _reads(plain, 1_000),
        [Reach(0.45, Side.PEER, stretch=0.3)],
        _OURS,
        _PEER,
        _FLOOR,
        why="LangChain's models take most of it: pydantic reads and validates each message, and AIMessage has a "
        "validator of its own in Python. The peer does the same, and makes objects of the JSON before.",
        short=True,
    ),
    Row(
        "read-rich",
        "`.messages`, 1,000 messages, rich",
        "µs",
        _reads(rich, 1_000),
        [Reach(0.5, Side.PEER, stretch=0.3)],
        f"{_OURS}; tool calls, ids, usage and response metadata in the answers",
        _PEER,
        _FLOOR,
        "Nearly all of it is LangChain's own validation of its models: pydantic, and the validators of AIMessage, "
        "which build each tool call anew.",
        short=True,
    ),
    Row(
        "read-ten",
        "`.messages`, 10 messages",
        "µs",
        _reads(plain, 10),
        [Reach(0.8, Side.PEER)],
        _OURS,
        _PEER,
        _FLOOR,
        "The fixed cost of a read counts more than the messages: redis-py, and the script, which counts the read as "
        "activity. It writes the metadata and the place in the index, while the peer only reads: 5 µs of its 21, and 8 "
        "go to the messages, which Redis copies for Lua. Torpor's own Python takes 8 µs, and LangChain's models 2.3 a "
        "message.",
        short=True,
    ),
]
