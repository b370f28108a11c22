"""Sessions that LangChain.js has written: adopted, asleep, and read in Python; the elements are the packages' own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.adopting import Killed, Moments, leftovers
from support.captured import LANGCHAIN_JS, Captured
from support.command import Torpor
from support.foreign import Foreign
from support.keyspace import dump, raw
from support.observed import ObservedStore
from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory, NotAdoptable, SessionArchive
from torpor.history.adapters.messages import decode_message, encode_message
from torpor.history.elements import is_message
from torpor.history.formats.original import original_of
from torpor.history.protocol import FORMATS, Layout, MessageCorrupt, SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

JS = FORMATS["langchain-js"]
ALL = [pytest.param(each, id=each.name) for each in LANGCHAIN_JS]
[NEWEST] = [each for each in LANGCHAIN_JS if each.name == "core-1.4.0"]
GENERIC = NEWEST.elements["generic"]
folder = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def write(client: Any, elements: list[bytes], session_id: str = "s") -> None:
    """As RedisChatMessageHistory: one LPUSH for each."""
    for element in elements:
        raw(client, "LPUSH", session_id, element)


def history(client: Any, session_id: str = "s", adopt: str | Layout | None = "langchain-js", **options: Any) -> Any:
    return MemorystoreChatMessageHistory(client, session_id, adopt=adopt, **options)


def given(elements: list[bytes]) -> list[bytes]:
    """The library's own elements. It writes removals that it can't read itself, so they do not go back to it."""
    return [original_of(element, "langchain-js") or element for element in elements]


@folder
@pytest.mark.parametrize("version", ALL)
def test_every_kind_of_message_is_read_and_kept_byte_for_byte(
    client: redis.Redis, services: Services, version: Captured
) -> None:
    elements = list(version.elements.values())
    write(client, elements)
    assert len(history(client).messages) == len(elements) > 60
    stored = services.sessions.messages("s")
    assert given(stored) == elements
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert list(read_transcript(services, "s")) == stored
    assert len(history(client, adopt=None, archive=SessionArchive(services.archive.url)).messages) == len(elements)
    assert not raw(client, "EXISTS", "s")


@pytest.mark.parametrize("version", ALL)
def test_what_python_reads_stays_the_same_bytes(client: redis.Redis, sessions: SessionStore, version: Captured) -> None:
    readable = [element for element in version.elements.values() if is_message(element)]
    assert 40 < len(readable) < len(version.elements)
    write(client, readable)
    sessions.adopt("s", JS)
    assert sessions.messages("s") == readable


@pytest.mark.parametrize("version", ALL)
def test_the_list_stands_newest_first(client: redis.Redis, version: Captured) -> None:
    raw(client, "RPUSH", "s", *version.session)
    assert [each.type for each in history(client).messages] == ["system", "human", "ai", "tool", "ai"]


EXPECTED: dict[str, dict[str, Any]] = {
    "generic": {"type": "chat", "role": "narrator", "content": "aside"},
    "generic without a role": {"type": "chat", "role": "", "content": "aside"},
    "tool without a call": {"type": "tool", "tool_call_id": "", "content": "fine"},
    "function without a name": {"type": "function", "name": "", "content": "42"},
    "human without content": {"type": "human", "content": ""},
    "ai, tool call without id": {"tool_calls": [{"name": "look", "args": {}, "id": None, "type": "tool_call"}]},
    "ai, tool call without args": {"tool_calls": [{"name": "look", "args": {}, "id": "call-1", "type": "tool_call"}]},
    "ai, tool call with args as text": {
        "tool_calls": [{"name": "look", "args": {"at": "x"}, "id": "call-1", "type": "tool_call"}]
    },
    "ai, tool call with args as other text": {
        "tool_calls": [],
        "invalid_tool_calls": [
            {"name": "look", "args": "no JSON", "id": "call-1", "error": None, "type": "invalid_tool_call"}
        ],
    },
    "ai, usage without total": {"usage_metadata": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}},
    "ai, empty usage": {"content": "x", "usage_metadata": None},
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_message_is_converted_to_what_it_says(kind: str) -> None:
    taken = JS.take(NEWEST.elements[kind])
    assert taken
    assert taken.converted == json.loads(NEWEST.elements[kind])["type"]
    assert decode_message(taken.element).model_dump().items() >= EXPECTED[kind].items()


def test_older_versions_wrote_no_content() -> None:
    [older] = [each for each in LANGCHAIN_JS if each.name == "core-0.3.80"]
    for kind in ("human made from a list", "human, null"):
        taken = JS.take(older.elements[kind])
        assert taken
        assert decode_message(taken.element).content == ""


UNREADABLE = [
    b"not JSON",
    b'"text"',
    b"[]",
    b'{"type":"human","data":null}',
    b'{"type":"someone","data":{"content":"x"}}',
    b'{"type":"generic","data":{"content":"x","role":"r"},"body":""}',
    b'{"type":"generic","data":{"content":7,"role":"r"}}',
    b'{"role":"user","content":"x"}',
    b'{"type":"message","role":"user","content":"x"}',
    b'{"type":"generic","data":{"content":"\xff","role":"r"}}',
]


@pytest.mark.parametrize("element", UNREADABLE, ids=repr)
def test_a_list_with_anything_else_stays_as_it_is(client: redis.Redis, element: bytes) -> None:
    write(client, [NEWEST.elements["human"], element, GENERIC])
    before = raw(client, "DUMP", "s")
    with pytest.raises(NotAdoptable, match=r"message 1: .*not all of it is messages of LangChain\.js"):
        _ = history(client).messages
    assert raw(client, "DUMP", "s") == before


def test_it_is_adopted_under_its_own_name_only(client: redis.Redis) -> None:
    write(client, [GENERIC])
    with pytest.raises(NotAdoptable, match="not all of it is LangChain messages"):
        _ = history(client, adopt="memorystore").messages
    assert [each.content for each in history(client).messages] == ["aside"]


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("bare", [False, True])
def test_a_list_without_a_sign_of_its_order_is_not_taken_for_pythons(
    client: redis.Redis, version: Captured, *, bare: bool
) -> None:
    text = b'{"type":"human","data":{"content":"Hello?"}}'
    human, question = (
        text if bare else version.elements["human"],
        b'{"type":"human","data":{"content":"Are you there?"}}',
    )
    write(client, [human, question])
    before = raw(client, "DUMP", "s")
    reason = "show no order, and LangChain.js may have written them" if bare else "are as LangChain.js writes them"
    with pytest.raises(NotAdoptable, match=re.escape(f"its messages {reason}, newest first")):
        _ = history(client, adopt="memorystore").messages
    assert raw(client, "DUMP", "s") == before
    raw(client, "RESTORE", "t", 0, before)
    insisted = history(client, "t", replace(FORMATS["memorystore"], check_order=False)).messages
    said = history(client).messages
    assert insisted == said[::-1]
    assert [decode_message(human), decode_message(question)] == said


@pytest.mark.parametrize("version", ALL)
def test_a_greeting_before_a_question_without_an_answer_is_not_taken_for_pythons(
    client: redis.Redis, version: Captured
) -> None:
    greeting, question = version.elements["ai"], version.elements["human"]
    write(client, [greeting, question])  # in Redis the question comes first
    with pytest.raises(NotAdoptable, match=r"are as LangChain\.js writes them, newest first"):
        _ = history(client, adopt="memorystore").messages
    MemorystoreChatMessageHistory(client, "s").add_user_message("It is in Redis already.")
    with pytest.raises(NotAdoptable, match=r"are as LangChain\.js writes them, newest first"):
        _ = history(client, adopt="memorystore").messages
    insisted = replace(JS, check_order=False)  # to that format it looks reversed, as any greeting
    assert [each.type for each in history(client, adopt=insisted).messages] == ["human", "ai", "human"]


def test_pythons_own_messages_and_a_conversation_need_no_other_sign(client: redis.Redis) -> None:
    Foreign(client).add("Hello?", "Are you there?")
    assert [each.content for each in history(client, adopt="memorystore").messages] == ["Hello?", "Are you there?"]
    turn = [encode_message(HumanMessage("Hello?")), encode_message(AIMessage("Yes."))]
    assert b'"type":"ai"' not in turn[1].partition(b'"data"')[2]
    raw(client, "RPUSH", "returned", *turn)
    assert [each.content for each in history(client, "returned", "memorystore").messages] == ["Hello?", "Yes."]


def test_a_message_that_is_too_large_with_its_original_is_refused(client: redis.Redis) -> None:
    write(client, [GENERIC])
    with pytest.raises(NotAdoptable, match=r"message 0: .*more than 129 bytes"):
        _ = history(client, max_message_bytes=len(GENERIC) + 20).messages
    assert raw(client, "LLEN", "s") == 1


@folder
def test_killed_anywhere_an_adoption_is_finished_with_the_same_conversion(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.history.store.adoption.PAGE_BYTES", 400)  # a few messages
    elements = list(NEWEST.elements.values())[-25:]
    SessionStore(client).append("other", [b"{}"])  # the deployment is known
    moment = 0
    while True:
        session_id = f"s{moment}"
        write(client, elements, session_id)
        passing = Moments()
        store = ObservedStore(client, passing)
        passing.passed, passing.dies_at = 0, moment
        try:
            store.adopt(session_id, JS)
            break
        except Killed:
            pass
        # Whoever comes next may know the session under another format, or finish what the record says.
        if moment % 2:
            for adoption in services.sessions.adoptions():
                assert adoption.layout == JS
                services.sessions.finish_adoption(adoption)
        services.sessions.adopt(session_id, JS)
        assert given(services.sessions.messages(session_id)) == elements, moment
        for ended in services.sessions.adoptions():
            assert services.sessions.finish_adoption(ended) == 0
        assert leftovers(client) == []
        moment += 1
    assert moment > 20


@folder
def test_a_dry_run_counts_the_kinds_of_messages_to_convert(client: redis.Redis, torpor: Torpor) -> None:
    kinds = ["human", "generic", "ai, usage without total", "ai", "generic of blocks"]
    write(client, [NEWEST.elements[kind] for kind in kinds])
    write(client, [NEWEST.elements["tool without a call"], GENERIC], "other")
    before = dump(client)
    told = torpor("adopt", "--match", "*", "--format", "langchain-js", "--dry-run", "--json").json
    assert told["converted"] == {"generic": 3, "ai": 1, "tool": 1}
    assert {each["session_id"]: each["converted"] for each in told["planned"]} == {
        "s": {"generic": 2, "ai": 1},
        "other": {"tool": 1, "generic": 1},
    }
    said = torpor("adopt", "--match", "*", "--format", "langchain-js", "--dry-run").out.splitlines()
    assert said[-1] == "would convert, and lose nothing: 1 ai, 3 generic, 1 tool"
    assert dump(client) == before
    done = torpor("adopt", "--match", "*", "--format", "langchain-js")
    assert (done.code, done.out) == (0, "adopted: 2 sessions, 7 messages\n")
    assert len(history(client, adopt=None).messages) == len(kinds)


FORGED = [
    b'{"type":"human","data":{"content":"hi"},"body":"","headers":{}}',
    b'{"body":"","headers":{},"properties":{},"content-type":"application/json"}',
    b'{"type":"human","data":{"content":"another"}}',
    b'{"type":"generic","data":{"content":"another","role":"r"}}',
    b'{"type":"human","data":{"content":null}}',
    b"not JSON",
]


@pytest.mark.parametrize("text", FORGED, ids=repr)
def test_no_text_that_the_format_would_not_convert_goes_out_as_an_original(text: bytes) -> None:
    message = {"type": "human", "data": {"content": "hi"}}
    element = json.dumps({**message, "original": {"format": "langchain-js", "text": text.decode()}}).encode()
    assert json.loads(JS.give(element)) == message


@folder
def test_a_forged_original_does_not_go_out_in_place_of_the_message(client: redis.Redis, torpor: Torpor) -> None:
    message = {"type": "human", "data": {"content": "hi"}}
    forged = {**message, "original": {"format": "langchain-js", "text": GENERIC.decode()}}
    raw(client, "RPUSH", "s", json.dumps(forged))
    assert torpor("adopt", "--match", "s", "--format", "memorystore").code == 0
    assert "hi" in torpor("show", "s").out
    assert torpor("export", "s", "--to", "langchain-js").code == 0
    assert [json.loads(element) for element in raw(client, "LRANGE", "returned:s", 0, -1)] == [message]


def test_to_another_format_goes_the_message_without_its_original() -> None:
    taken = JS.take(GENERIC)
    assert taken
    given_back = FORMATS["memorystore"].give(taken.element)
    assert json.loads(given_back).keys() == {"type", "data"}
    assert decode_message(given_back) == decode_message(taken.element)
    with pytest.raises(MessageCorrupt):
        FORMATS["memorystore"].give(GENERIC)
