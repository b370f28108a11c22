"""LlamaIndex's own store writes, and reads what comes back; tests/integration/.../test_llamaindex.py has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from support.captured import LLAMAINDEX, Captured
from support.command import Torpor
from support.said_in_python import SAID
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory

pytestmark = [
    pytest.mark.parametrize("archive_url", ["folder"], indirect=True),
    # pydantic's warnings about models of LlamaIndex, and nltk's of its own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]

[NEWEST] = [each for each in LLAMAINDEX if each.name == "core-0.14.25"]


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[Any]:
    from llama_index.storage.chat_store.redis import RedisChatStore

    with redis_server.client() as client:
        yield RedisChatStore(redis_client=client, aredis_client=redis.asyncio.Redis(port=redis_server.port), ttl=600)


@pytest.mark.parametrize("version", [pytest.param(each, id=each.name) for each in LLAMAINDEX])
def test_all_that_it_writes_sleeps_wakes_and_is_read_by_it_again(
    client: redis.Redis, store: Any, torpor: Torpor, version: Captured
) -> None:
    # It reads a path only while its file is there.
    elements = [each for kind, each in version.elements.items() if kind != "user with the path of an image"]
    client.rpush("s", *elements)
    messages = store.get_messages("s")
    if version is NEWEST:
        store.set_messages("s", messages)
        assert client.lrange("s", 0, -1) == elements, "capture it again"
    assert torpor("adopt", "--match", "s", "--format", "llamaindex").code == 0
    assert store.get_messages("s") == []
    assert len(MemorystoreChatMessageHistory(client, "s").messages) == len(elements)
    assert torpor("archive", "s").code == 0
    assert torpor("export", "s", "--to", "llamaindex", "--prefix", "").code == 0
    assert store.get_messages("s") == messages


def test_it_reads_what_python_has_said(client: redis.Redis, store: Any, torpor: Torpor) -> None:
    kinds = [kind for kind in SAID if kind not in ("chat", "ai, half a pair")]
    MemorystoreChatMessageHistory(client, "s").add_messages([SAID[kind] for kind in kinds])
    assert torpor("export", "s", "--to", "llamaindex", "--prefix", "").code == 0
    read = store.get_messages("s")
    assert [each.content or "" for each in read] == [SAID[kind].text for kind in kinds]
    calls = [block for each in read for block in each.blocks if block.block_type == "tool_call"]
    assert [(each.tool_call_id, each.tool_kwargs) for each in calls] == [
        ("call-1", {"at": "ü", "n": 2**53}),
        ("call-4", {"at": "x"}),
    ]


def test_a_deletion_reverses_and_torpor_says_so(client: redis.Redis, store: Any, torpor: Torpor) -> None:
    from llama_index.core.llms import ChatMessage

    for role, text in (("system", "Be brief."), ("user", "hello"), ("assistant", "hi")):
        store.add_message("s", ChatMessage(role=role, content=text))
    store.delete_message("s", 0)
    assert [each.content for each in store.get_messages("s")] == ["hi", "hello"]
    told = torpor("adopt", "--match", "s", "--format", "llamaindex")
    assert "delete_message of LlamaIndex reverses a list" in told.out
    assert [each.content for each in store.get_messages("s")] == ["hi", "hello"]
