"""Sessions that LlamaIndex has written: adopted, asleep, and read in Python; the elements are the package's own.

tests/readers/test_llama_index.py has the package itself.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from support.captured import LLAMAINDEX, Captured
from support.command import Torpor
from support.keyspace import dump, raw
from support.said_in_python import SAID
from torpor import MemorystoreChatMessageHistory, NotAdoptable, SessionArchive
from torpor.history.adapters.messages import decode_message, encode_message
from torpor.history.protocol import FORMATS, MessageCorrupt, SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

LLAMA = FORMATS["llamaindex"]
ALL = [pytest.param(each, id=each.name) for each in LLAMAINDEX]
[NEWEST] = [each for each in LLAMAINDEX if each.name == "core-0.14.25"]
folder = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def history(client: Any, session_id: str = "s", adopt: Any = "llamaindex", **options: Any) -> Any:
    return MemorystoreChatMessageHistory(client, session_id, adopt=adopt, **options)


@folder
@pytest.mark.parametrize("version", ALL)
def test_every_kind_is_adopted_sleeps_wakes_and_goes_back_byte_for_byte(
    client: redis.Redis, services: Services, torpor: Torpor, version: Captured
) -> None:
    elements = list(version.elements.values())
    raw(client, "RPUSH", "s", *elements)
    assert torpor("adopt", "--match", "s", "--format", "llamaindex").code == 0
    read = history(client, adopt=None).messages
    assert len(read) == len(elements) > 15
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert history(client, adopt=None, archive=SessionArchive(services.archive.url)).messages == read
    assert torpor("export", "s", "--to", "llamaindex", "--ttl", "60").code == 0
    assert raw(client, "LRANGE", "returned:s", 0, -1) == elements
    assert 50 < raw(client, "TTL", "returned:s") <= 60


@pytest.mark.parametrize("version", ALL)
def test_the_oldest_message_comes_first(client: redis.Redis, version: Captured) -> None:
    raw(client, "RPUSH", "s", *version.session)
    assert [each.type for each in history(client).messages] == ["system", "human", "ai", "tool", "ai"]


CALL = {"name": "look", "args": {"at": "ü", "n": 2}, "id": "call-1", "type": "tool_call"}
TEXT = {"type": "text", "text": "a block"}
PNG = {"type": "image", "base64": "iVBORw0KGgoAAAANSUhEUg==", "mime_type": "image/png"}
EXPECTED: dict[str, dict[str, Any]] = {
    "user": {"type": "human", "content": "Wie geht's? 😀 日本語\n\u2028"},
    "user, no content": {"type": "human", "content": ""},
    "user with additional_kwargs": {"name": "ann", "additional_kwargs": {"deep": [{"a": [1.5, None]}]}},
    "user of two texts": {"content": [TEXT, {"type": "text", "text": "another"}]},
    "user with an image": {"content": [TEXT, PNG]},
    "user with the URL of an image": {
        "content": [TEXT, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    },
    "user with a sound": {"content": [{"type": "audio", "base64": "UklGRgAB", "mime_type": "audio/wav"}]},
    "user with a document": {
        "content": [
            {
                "type": "file",
                "base64": "JVBERi0A",
                "mime_type": "application/pdf",
                "extras": {"filename": "a paper"},
            }
        ]
    },
    "developer": {"type": "system", "additional_kwargs": {"__openai_role__": "developer"}},
    "assistant with signed thinking": {
        "content": [{"type": "reasoning", "reasoning": "hm", "extras": {"signature": "AA=="}}, TEXT]
    },
    "assistant with a tool call": {"type": "ai", "content": "", "tool_calls": [CALL]},
    "assistant, tool call of text": {"tool_calls": [{**CALL, "args": {"at": "x"}}]},
    "assistant, tool call of half a text": {
        "tool_calls": [],
        "invalid_tool_calls": [{**CALL, "args": '{"at"', "error": None, "type": "invalid_tool_call"}],
    },
    "assistant with OpenAI's tool calls": {
        "tool_calls": [{**CALL, "args": {"at": "ü"}}],
        "additional_kwargs": {},
    },
    "assistant with both kinds of tool calls": {"tool_calls": [CALL]},
    "tool": {"type": "tool", "tool_call_id": "call-1", "name": "look", "content": "fine"},
    "tool without a call": {"type": "tool", "tool_call_id": ""},
    "function without a name": {"type": "function", "name": ""},
    "model": {"type": "ai", "content": "fine"},
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_message_is_converted_to_what_it_says(kind: str) -> None:
    taken = LLAMA.take(NEWEST.elements[kind])
    assert taken
    assert taken.converted == json.loads(NEWEST.elements[kind])["role"]
    assert decode_message(taken.element).model_dump().items() >= EXPECTED[kind].items()


def test_an_original_stands_only_beside_a_message_that_does_not_say_all_of_it() -> None:
    taken = {kind: LLAMA.take(element) for kind, element in NEWEST.elements.items()}
    kept = {kind for kind, each in taken.items() if each and "original" in json.loads(each.element)}
    assert {"model", "user, no content", "assistant with a tool call before a text"} <= kept
    assert not kept & {"user", "system", "developer", "assistant", "assistant with a tool call", "tool"}


UNREADABLE = [
    b"not JSON",
    b"[]",
    b'{"role":"user","content":"x"}',
    b'{"role":"user","additional_kwargs":{},"blocks":"x"}',
    b'{"role":"user","additional_kwargs":{},"blocks":[{"block_type":"smell"}]}',
    b'{"role":"user","additional_kwargs":{},"blocks":[{"block_type":"text","text":7}]}',
    b'{"role":"narrator","additional_kwargs":{},"blocks":[]}',
    b'{"role":"user","additional_kwargs":{},"blocks":[],"body":""}',
    b'{"type":"human","data":{"content":"x"}}',
]


@pytest.mark.parametrize("element", UNREADABLE, ids=repr)
def test_a_list_with_anything_else_stays_as_it_is(client: redis.Redis, element: bytes) -> None:
    raw(client, "RPUSH", "s", NEWEST.elements["user"], element)
    before = raw(client, "DUMP", "s")
    with pytest.raises(NotAdoptable, match=r"message 1: .*not all of it is messages of LlamaIndex"):
        _ = history(client).messages
    assert raw(client, "DUMP", "s") == before


@pytest.mark.parametrize("version", ALL)
def test_a_list_that_a_deletion_has_reversed_stays_unless_it_is_forced(
    client: redis.Redis, torpor: Torpor, version: Captured
) -> None:
    raw(client, "RPUSH", "s", *version.after_a_deletion)
    before = raw(client, "DUMP", "s")
    with pytest.raises(
        NotAdoptable, match="delete_message of LlamaIndex reverses a list: insist with --force or Layout"
    ):
        _ = history(client).messages
    assert raw(client, "DUMP", "s") == before
    assert torpor("adopt", "--match", "s", "--format", "llamaindex", "--force").code == 0
    assert [each.type for each in history(client, adopt=None).messages] == ["ai", "tool", "ai", "human"]


@folder
def test_what_python_has_said_is_given_and_what_falls_away_is_named_first(client: redis.Redis, torpor: Torpor) -> None:
    kinds = [kind for kind in SAID if kind not in ("chat", "ai, half a pair")]
    history(client, adopt=None).add_messages([SAID[kind] for kind in kinds])
    done = torpor("export", "s", "--to", "llamaindex")
    assert done.code == 0
    assert done.err == (
        "session 's': the other library has no place for artifact of 1, id of 1, status of 1, usage_metadata of 2 "
        "messages\n"
    )
    again = history(client, "returned:s").messages
    assert [(each.type, each.text) for each in again] == [
        (SAID[kind].type.removesuffix("MessageChunk").lower(), SAID[kind].text) for kind in kinds
    ]
    for kind, each in zip(kinds, again, strict=True):
        for name in ("name", "additional_kwargs", "tool_calls", "tool_call_id"):
            assert getattr(each, name, None) == getattr(SAID[kind], name, None), (kind, name)


UNSAYABLE: dict[str, tuple[BaseMessage | bytes, str]] = {
    "a role of one's own": (SAID["chat"], "of the type 'chat', for which LlamaIndex has no role"),
    "a removal": (b'{"type":"remove","data":{"id":"1","content":""}}', "of the type 'remove'"),
    "half a pair": (SAID["ai, half a pair"], "which LlamaIndex can't read"),
    "a part of another kind": (HumanMessage([{"type": "server_tool_call"}]), "a part 0 of the type 'server_tool_call'"),
    "no URL": (HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}]), "which LlamaIndex can't read"),
    "a file of a provider": (HumanMessage([{"type": "file", "file_id": "f"}]), "a part 0 of the type 'file'"),
    "old images": (HumanMessage("", additional_kwargs={"images": [{}]}), "has images in additional_kwargs"),
    "an item": (b'{"role":"user","content":"x"}', "is not a LangChain message"),
}


@pytest.mark.parametrize("name", UNSAYABLE)
@folder
def test_what_llamaindex_can_not_read_is_named_and_nothing_is_written(
    client: redis.Redis, sessions: SessionStore, torpor: Torpor, name: str
) -> None:
    message, reason = UNSAYABLE[name]
    element = message if isinstance(message, bytes) else encode_message(message)
    sessions.append("s", [encode_message(AIMessage("fine")), element])
    before = dump(client)
    with pytest.raises(MessageCorrupt, match=reason):
        LLAMA.give(element)
    refused = torpor("export", "s", "--to", "llamaindex")
    assert refused.code == 1
    assert "message 1 of session 's'" in refused.err
    assert dump(client) == before
