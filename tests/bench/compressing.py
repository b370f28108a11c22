"""Measures what compression saves in Redis, and what it costs a write and a read of the same build."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from langchain_core.messages import BaseMessage

from bench.chats import plain, rich, session_ids, turn
from bench.footprint import used_memory
from bench.harness import Bench, Reach, Row, Setup, Side, Sides, each_of
from bench.rivals import peer_class
from bench.writing import TTL, TURNS
from torpor import MemorystoreChatMessageHistory
from torpor.history.expiry import DEFAULT_IDLE
from torpor.history.protocol import Compression, SessionStore

# So many that a shard's index is a skip list, as in any real deployment; Redis packs smaller ones.
_SHARDS = 8


@contextmanager
def _client(bench: Bench, how: Compression) -> Iterator[redis.Redis]:
    """A client whose deployment writes in this way; it remembers that when Redis is emptied."""
    with bench.client() as client:
        SessionStore(client, shards=_SHARDS).configure(idle=DEFAULT_IDLE, max_age=None, compression=how)
        yield client


def _history(client: redis.Redis, session_id: str) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, TTL, owner=f"user-{session_id[:8]}", shards=_SHARDS)


def _peer(client: redis.Redis, session_id: str) -> Any:
    return peer_class()(client, session_id, ttl=TTL)


def _bytes(make: Callable[[int], Sequence[BaseMessage]]) -> Setup:
    @contextmanager
    def setup(bench: Bench) -> Iterator[Sides]:
        sessions = bench.size(2_000, 1_500)
        said = make(10)

        with _client(bench, Compression.ZSTD) as client:

            def each(opened: Callable[[redis.Redis, str], Any]) -> float:
                opened(client, "first").add_messages(said)  # scripts and configuration are there
                before = used_memory(client)
                for session_id in session_ids(sessions):
                    history = opened(client, session_id)
                    for first in range(0, len(said), 2):
                        history.add_messages(said[first : first + 2])
                taken = used_memory(client) - before
                client.flushall()
                return taken / sessions

            yield Sides(lambda: each(_history), lambda: each(_peer))

    return setup


@contextmanager
def _turns(bench: Bench) -> Iterator[Sides]:
    said = turn()
    sessions = bench.size(40, 10)

    def microseconds(client: redis.Redis) -> float:
        histories = [_history(client, each) for each in session_ids(sessions)]
        acts = [partial(each.add_messages, said) for each in histories]
        taken = bench.clock.seconds(each_of(act for act in acts for _ in range(TURNS)))
        client.flushall()
        return taken / sessions / TURNS * 1e6

    with _client(bench, Compression.ZSTD) as packing, _client(bench, Compression.NONE) as usual:
        yield Sides(ours=lambda: microseconds(packing), floor=lambda: microseconds(usual))


def _reads(count: int) -> Setup:
    @contextmanager
    def setup(bench: Bench) -> Iterator[Sides]:
        said = plain(count)
        times = bench.size(max(10, 3_000 // count), 5)

        def microseconds(history: MemorystoreChatMessageHistory) -> float:
            return bench.clock.seconds(each_of([lambda: history.messages] * times)) / times * 1e6

        with _client(bench, Compression.ZSTD) as packing, _client(bench, Compression.NONE) as usual:
            histories = [_history(packing, "compressed"), _history(usual, "usual")]
            for each in histories:
                each.add_messages(said)
                assert each.messages == said
            compressed, as_usual = histories
            yield Sides(ours=lambda: microseconds(compressed), floor=lambda: microseconds(as_usual))

    return setup


_TURNS = "5 turns of a session with ttl and owner, all keys and the index included: growth of `used_memory`"
_PEER = "the same turns by the peer's class with a ttl"
_FLOOR = "the same without compression"
_ZSTANDARD = (
    "A message of 635 bytes takes Zstandard 3.5 µs to compress and 1.3 µs to read, and the code around it 1 µs more; a "
    "read of 4 µs a message has no room for that in a tenth."
)


def _beside_itself(name: str, figure: str, setup: Setup, ours: str) -> Row:
    return Row(name, figure, "µs", setup, [Reach(1.1, Side.FLOOR)], ours, floor=_FLOOR, why=_ZSTANDARD, short=True)


ROWS = [
    Row(
        "zstd-bytes",
        "Redis bytes per session of 10 messages, compressed",
        "bytes",
        _bytes(plain),
        [Reach(0.6, Side.PEER)],
        f"{_TURNS}; words of syllables that are in no dictionary",
        _PEER,
        why="Words of random syllables get little smaller: what the dictionary has is the frameworks' members and "
        "frequent words. The metadata, the owner's set and the index, 640 bytes, are as they were.",
        most_rounds=5,
        warm=False,
        profiled=False,
    ),
    Row(
        "zstd-bytes-rich",
        "the same, rich messages",
        "bytes",
        _bytes(rich),
        [Reach(0.5, Side.PEER)],
        f"{_TURNS}; tool calls, ids, usage and response metadata in the answers",
        _PEER,
        most_rounds=5,
        warm=False,
        profiled=False,
    ),
    _beside_itself("zstd-write", "write a turn (60 + 600 characters), compressed", _turns, "`add_messages`"),
    _beside_itself("zstd-read-ten", "`.messages`, 10 messages, compressed", _reads(10), "`.messages`"),
    _beside_itself("zstd-read-plain", "`.messages`, 1,000 messages, compressed", _reads(1_000), "`.messages`"),
]
