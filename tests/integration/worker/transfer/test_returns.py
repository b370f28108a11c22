"""torpor export --to: sessions go back to each library, which reads them itself where it can be installed here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from agents.extensions.memory import RedisSession

from support.captured import LANGCHAIN_JS
from support.command import Torpor
from support.foreign import LAYOUTS, Foreign
from support.keyspace import dump, raw
from support.paths import TESTS
from support.said_in_python import SAID
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory, MemorystoreSession
from torpor.history.adapters.messages import encode_message
from torpor.history.protocol import FORMATS, MessageCorrupt, SessionExists, SessionStore

JS = FORMATS["langchain-js"]
# What the real packages have read of these elements: see tests/captured/langchain-js-read/read.mjs.
READ = json.loads((TESTS / "captured" / "langchain-js-read" / "core-1.4.0.json").read_text(encoding="utf-8"))
CLASSES = {
    "human": "HumanMessage",
    "system": "SystemMessage",
    "ai": "AIMessage",
    "tool": "ToolMessage",
    "function": "FunctionMessage",
    "chat": "ChatMessage",
}

folder = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


@pytest.mark.parametrize("kind", SAID)
def test_langchain_js_has_read_what_each_message_becomes(kind: str) -> None:
    assert JS.give(encode_message(SAID[kind])).decode() == READ["given"][kind], "capture it again"
    read = READ["read"][kind]
    assert read["class"] == CLASSES[kind.replace(",", "").split()[0]]
    said = SAID[kind].model_dump()
    for name in ("content", "name", "id", "role", "tool_calls", "tool_call_id", "status", "artifact", "usage_metadata"):
        assert (read.get(name) or None) == (said.get(name) or None), name


@folder
def test_all_kinds_go_to_langchain_js_and_come_again(client: redis.Redis, torpor: Torpor) -> None:
    MemorystoreChatMessageHistory(client, "s").add_messages(list(SAID.values()))
    done = torpor("export", "s", "--to", "langchain-js", "--ttl", "60")
    assert (done.code, done.out) == (0, f"given back: returned:s, {len(SAID)} messages\n")
    assert [each.decode() for each in raw(client, "LRANGE", "returned:s", 0, -1)[::-1]] == list(READ["given"].values())
    assert 50 < raw(client, "TTL", "returned:s") <= 60
    again = MemorystoreChatMessageHistory(client, "returned:s", adopt="langchain-js").messages
    assert [each.text for each in again] == [each.text for each in SAID.values()]
    assert [each.type for each in again][-1] == "chat"


@folder
def test_what_langchain_js_has_written_goes_back_byte_for_byte(client: redis.Redis, torpor: Torpor) -> None:
    for version in LANGCHAIN_JS:
        elements = [each for kind, each in version.elements.items() if kind != "remove"]
        for element in elements:
            raw(client, "LPUSH", version.name, element)
    found = torpor("adopt", "--match", "*", "--format", "langchain-js", "--json").json
    assert (found["sessions"], found["left"]) == (len(LANGCHAIN_JS), {})
    assert torpor("export", "--all", "--to", "langchain-js").code == 0
    for version in LANGCHAIN_JS:
        elements = [each for kind, each in version.elements.items() if kind != "remove"]
        assert raw(client, "LRANGE", f"returned:{version.name}", 0, -1)[::-1] == elements


UNSAYABLE: dict[str, tuple[bytes, str]] = {
    "a removal": (b'{"type":"remove","data":{"id":"1","content":""}}', "of the type 'remove'"),
    "no number": (b'{"type":"human","data":{"content":"","additional_kwargs":{"a":[NaN]}}}', "not finite"),
    "a long integer": (
        b'{"type":"human","data":{"content":"","additional_kwargs":{"n":9007199254740993}}}',
        "an integer that no double can hold",
    ),
    "an item": (b'{"role":"user","content":"x"}', "is not a LangChain message"),
}


@pytest.mark.parametrize("name", UNSAYABLE)
@folder
def test_what_langchain_js_would_misread_is_named_and_nothing_is_written(
    client: redis.Redis, sessions: SessionStore, torpor: Torpor, name: str
) -> None:
    element, reason = UNSAYABLE[name]
    sessions.append("s", [b'{"type":"human","data":{"content":"hi"}}', element, element])
    before = dump(client)
    done = torpor("export", "s", "--to", "langchain-js")
    assert done.code == 1
    assert reason in done.err
    assert "message 1 of session" in done.err
    assert "message 2 of session" in done.err
    assert dump(client) == before


def test_only_some_of_many_messages_are_named(sessions: SessionStore) -> None:
    with pytest.raises(MessageCorrupt, match=r"message 4 of session 's' is not .*; and 95 more$"):
        sessions.give_back("s", [b"{}"] * 100)


@pytest.mark.parametrize("name", [*LAYOUTS, "langchain-js"])
@folder
def test_a_long_session_goes_back_in_the_order_of_the_format(
    client: redis.Redis, sessions: SessionStore, torpor: Torpor, name: str
) -> None:
    chat = MemorystoreChatMessageHistory(client, "s")
    chat.add_messages([each for number in range(60) for each in list(SAID.values())[3:6]])
    assert torpor("export", "s", "--to", name).code == 0
    layout = FORMATS[name]
    prefix = layout.prefix or "returned:"
    theirs = Foreign(client, type(layout)(prefix, layout.newest_first))
    assert theirs.messages == chat.messages
    with pytest.raises(SessionExists):
        sessions.give_back("s", sessions.messages("s"), layout=theirs.layout)


@pytest.mark.single_node(reason="the SDK's session has no transactions on a Cluster")
@folder
def test_items_go_to_the_sdks_own_session(client: redis.Redis, redis_server: RedisServer, torpor: Torpor) -> None:
    items: list[Any] = [{"role": "user", "content": f"{number} \ud83d"} for number in range(150)]

    def run(body: Callable[[Any], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            server = redis_server
            async with redis.asyncio.Redis(
                port=server.port, username=server.user, password=server.password
            ) as connection:
                return await body(connection)

        return asyncio.run(connected())

    async def go_on(connection: Any) -> Any:
        theirs = RedisSession("s", redis_client=connection)
        found = await theirs.get_items()
        await theirs.add_items(items[:1])
        assert await theirs.pop_item() == items[0]
        return found

    run(lambda connection: MemorystoreSession(connection, "s").add_items(items))
    done = torpor("export", "s", "--to", "openai-agents")
    assert (done.code, done.out) == (0, "given back: agents:session:s:messages, 150 messages\n")
    assert run(go_on) == items
    MemorystoreChatMessageHistory(client, "chat").add_messages(list(SAID.values())[:1])
    refused = torpor("export", "chat", "--to", "openai-agents")
    assert "message 0 of session 'chat' is not an item of the Agents SDK" in refused.err
    assert not raw(client, "EXISTS", "agents:session:chat:messages")
