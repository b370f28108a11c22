"""Measures the Redis bytes of your own conversations beside the peer's: make bytes-bench ARGS=conversations.jsonl.

The file has lines as `torpor import` reads them. Each session is written turn by turn, with a ttl and an owner.
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis
from langchain_core.messages import BaseMessage, HumanMessage

from bench.footprint import start_empty, used_memory
from bench.rivals import peer_class
from bench.writing import TTL
from torpor import MemorystoreChatMessageHistory
from torpor.history.adapters.messages import decode_message
from torpor.history.expiry import DEFAULT_IDLE
from torpor.history.protocol import Compression, SessionStore
from torpor.worker.transfer.json_lines import Conversation, read_conversations

# So few that a shard's index is a skip list also with some hundred sessions; Redis packs up to 128.
_SHARDS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the Redis bytes of conversations.")
    parser.add_argument("file", type=Path)
    conversations = list(read_conversations(parser.parse_args().file))
    with tempfile.TemporaryDirectory() as folder:
        server = start_empty(Path(folder))
        try:
            with server.client() as client:
                _compare(client, conversations)
        finally:
            server.stop()


def _compare(client: redis.Redis, conversations: Sequence[Conversation]) -> None:
    info: Any = client.info("server")
    messages = sum(len(each.elements) for each in conversations)
    print(
        f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}: "
        f"{len(conversations):,} sessions of {messages / len(conversations):.0f} messages"
    )
    peer = _bytes_each(client, conversations, lambda session_id: peer_class()(client, session_id, ttl=TTL))
    print(f"  peer: {peer:,.0f} bytes a session")
    for how in Compression:
        SessionStore(client, shards=_SHARDS).configure(idle=DEFAULT_IDLE, max_age=None, compression=how)
        ours = _bytes_each(
            client,
            conversations,
            lambda session_id: MemorystoreChatMessageHistory(
                client, session_id, TTL, owner=f"user-{session_id[:8]}", shards=_SHARDS
            ),
        )
        print(f"  Torpor, compression {how}: {ours:,.0f} bytes a session, {ours / peer:.2f} of the peer's")


def _bytes_each(client: redis.Redis, conversations: Sequence[Conversation], opened: Callable[[str], Any]) -> float:
    before = used_memory(client)
    for conversation in conversations:
        history = opened(conversation.session_id)
        for turn in _turns([decode_message(each) for each in conversation.elements]):
            history.add_messages(turn)
    taken = used_memory(client) - before
    client.flushall()
    return taken / len(conversations)


def _turns(messages: Sequence[BaseMessage]) -> Iterator[Sequence[BaseMessage]]:
    """What an application adds at once: a question, and all up to the next one."""
    begins = [number for number, each in enumerate(messages) if number == 0 or isinstance(each, HumanMessage)]
    for first, end in zip(begins, [*begins[1:], len(messages)], strict=True):
        yield messages[first:end]


if __name__ == "__main__":
    main()
