"""LangChain.js itself reads what comes back to it, as it did before; over Redis, and over Upstash's REST protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from support.captured import LANGCHAIN_JS, Captured
from support.command import Torpor
from support.keyspace import raw
from support.langchain_js import LangChainJs, install, upstash
from support.said_in_python import SAID
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.single_node(reason="the library's client is one of a node"),
    pytest.mark.parametrize("archive_url", ["folder"], indirect=True),
]
ALL = [pytest.param(each, id=each.name) for each in LANGCHAIN_JS]
CLASSES = {"human": "HumanMessage", "system": "SystemMessage", "ai": "AIMessage", "tool": "ToolMessage"}
CLASSES |= {"function": "FunctionMessage", "chat": "ChatMessage"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("langchain-js"))


@pytest.fixture(params=["redis", "upstash"])
def javascript(
    request: pytest.FixtureRequest, client: redis.Redis, redis_server: RedisServer, packages: Path
) -> Iterator[LangChainJs]:
    if request.param == "redis":
        yield LangChainJs(packages, "redis", redis_server.url)
        return
    with upstash(client) as url:
        yield LangChainJs(packages, "upstash", url)


# It writes these and then can't read the list; a removal does not come back, and the others do as they were.
UNREADABLE = {"remove", "tool without a call", "function without a name", "generic without a role"}
# Its class for Upstash throws for an element without data, as versions before 1.0 have written it.
WITHOUT_DATA = {"human made from a list", "ai made from a list"}


@pytest.mark.parametrize("version", ALL)
def test_what_comes_back_is_read_as_before(
    client: redis.Redis, torpor: Torpor, services: Services, javascript: LangChainJs, version: Captured
) -> None:
    kinds = {kind: element for kind, element in version.elements.items() if kind != "remove"}
    for kind, element in kinds.items():
        raw(client, "LPUSH", kind, element)
    before = dict(zip(kinds, javascript.read(*kinds), strict=True))
    unread = {kind for kind, read in before.items() if isinstance(read, str)}
    flat = {kind for kind in WITHOUT_DATA if "data" not in json.loads(kinds[kind])}
    expected = UNREADABLE | (flat if javascript.kind == "upstash" else set())
    assert unread == expected & kinds.keys(), {kind: before[kind] for kind in unread}
    assert torpor("adopt", "--match", "*", "--format", "langchain-js").code == 0
    for kind in kinds:
        assert len(MemorystoreChatMessageHistory(client, kind).messages) == 1
        assert archive_session(services, kind).outcome is Outcome.ARCHIVED
    assert javascript.read(*kinds) == [[]] * len(kinds)
    assert torpor("export", "--all", "--to", "langchain-js", "--prefix", "").code == 0
    assert dict(zip(kinds, javascript.read(*kinds), strict=True)) == before


def test_it_reads_what_python_has_said(client: redis.Redis, torpor: Torpor, javascript: LangChainJs) -> None:
    MemorystoreChatMessageHistory(client, "s").add_messages(list(SAID.values()))
    assert torpor("export", "s", "--to", "langchain-js", "--prefix", "").code == 0
    for (kind, message), read in zip(SAID.items(), javascript.read("s")[0], strict=True):
        assert read["class"] == CLASSES[kind.replace(",", "").split()[0]]
        said = message.model_dump()
        for name in ("content", "name", "id", "role", "tool_calls", "tool_call_id", "status", "usage_metadata"):
            assert (read.get(name) or None) == (said.get(name) or None), (kind, name)


def test_what_it_writes_is_read_in_python(client: redis.Redis, torpor: Torpor, javascript: LangChainJs) -> None:
    [newest] = [each for each in LANGCHAIN_JS if each.name == "core-1.4.0"]
    messages: list[dict[str, Any]] = [json.loads(element) for element in reversed(newest.session)]
    written = javascript.write("s", *messages, json.loads(newest.elements["generic"]))
    assert [each["class"] for each in written][-1] == "ChatMessage"
    stored = raw(client, "LRANGE", "s", 0, -1)[::-1]
    assert stored == [*newest.session[::-1], newest.elements["generic"]], "capture it again"
    assert 590 < raw(client, "TTL", "s") <= 600
    assert torpor("adopt", "--match", "s", "--format", "langchain-js").code == 0
    read = MemorystoreChatMessageHistory(client, "s").messages
    assert [each.type for each in read] == ["system", "human", "ai", "tool", "ai", "chat"]
