"""The console's page of a transcript: read without waking, in pages, cut, as text, and recorded in the audit trail."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import redis
from langchain_core.messages import AIMessage, ToolMessage

from support import graphs
from support.cli_sessions import chat, say, sleep
from support.keyspace import dump
from support.pages_read import READER, Browser, Shown, browser
from support.trail import entries_of
from torpor import MemorystoreSaver
from torpor.history.protocol import ANY_OWNER, PurgeTarget, SessionStore
from torpor.worker.console.roles import Role
from torpor.worker.console.speaking import MOST_CALLS, MOST_TEXT
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session

pytestmark = pytest.mark.slow

PATH = "/session/transcript"
MIB = 1024 * 1024


@pytest.fixture
def console(services: Services) -> Iterator[Browser]:
    with browser(services) as opened:
        yield opened


def texts(page: Shown) -> list[str]:
    return [
        html.unescape(each) for each in re.findall(r'<pre class="text" dir="auto">(.*?)</pre>', page.source, re.DOTALL)
    ]


def test_a_sleeping_session_is_read_and_stays_asleep_and_the_audit_trail_says_who_has_read_it(
    client: redis.Redis, services: Services, console: Browser
) -> None:
    sleep(client, services, "s", "first words", "second words")
    before = dump(client)
    page = console.get(PATH, id="s")
    assert (page.status, texts(page)) == (200, ["first words", "second words"])
    assert page.link("ann") == "/person?owner=ann"
    assert dump(client) == before
    [entry] = entries_of(services)
    assert (entry.begun.act, entry.begun.by, entry.begun.subject.sessions) == ("show", READER, ["s"])
    assert entry.ended
    assert (entry.ended.how, entry.ended.sessions) == ("done", 1)


def test_a_session_that_is_partly_asleep_is_read_as_a_whole(
    client: redis.Redis, services: Services, console: Browser
) -> None:
    sleep(client, services, "s", "old")
    say(client, "s", "new")
    assert texts(console.get(PATH, id="s")) == ["old", "new"]


def test_pages_have_fifty_messages_each_at_its_position(client: redis.Redis, console: Browser) -> None:
    say(client, "s", *(f"message number {number}" for number in range(120)))
    page, found = console.get(PATH, id="s"), list[str]()
    sizes = []
    while True:
        sizes.append(len(texts(page)))
        found += texts(page)
        if "next" not in re.findall(r'rel="(\w+)"', page.source):
            break
        page = console.get(next(each for each in page.links if f"page={len(sizes) + 1}" in each))
    assert (sizes, found) == ([50, 50, 20], [f"message number {number}" for number in range(120)])
    assert page.link("100") == "#m100"
    assert '<li id="m119">' in page.source
    assert [console.get(PATH, id="s", page=each).status for each in ("0", "4", "x", "9" * 30)] == [400] * 4


def test_calls_of_tools_are_folded(client: redis.Redis, console: Browser) -> None:
    calls = [{"name": "refund", "args": {"euros": number}, "id": f"call-{number}"} for number in range(10_000)]
    chat(client, "s").add_messages([AIMessage("paying", tool_calls=calls), ToolMessage("paid", tool_call_id="call-0")])
    page = console.get(PATH, id="s")
    assert page.source.count("<details>") == MOST_CALLS
    assert page.source.count("Calls the tool refund") == MOST_CALLS
    assert f"{10_000 - MOST_CALLS:,} more calls of tools." in page.text
    assert len(page.source) < 100_000
    whole = console.get(page.link("Show all of message 0"))
    stored = texts(whole)[0]
    while "The next part" in whole.source:
        whole = console.get(whole.link("The next part"))
        stored += texts(whole)[0]
    assert len(json.loads(stored)["data"]["tool_calls"]) == 10_000


def test_a_long_text_is_cut_and_the_rest_is_a_link_away(client: redis.Redis, console: Browser) -> None:
    text = "".join(f"{number:06} " for number in range(10_000))
    say(client, "s", text, "short")
    page = console.get(PATH, id="s")
    assert texts(page) == [text[:MOST_TEXT], "short"]
    whole = console.get(page.link("Show all of message 0"))
    read = texts(whole)[0]
    while "The next part" in whole.source:
        whole = console.get(whole.link("The next part"))
        read += texts(whole)[0]
    assert read == text
    assert whole.link("Back to the transcript") == f"{PATH}?id=s&page=1#m0"


def test_many_large_messages_make_no_large_page(client: redis.Redis, services: Services, console: Browser) -> None:
    huge = '"<&' * (16 * MIB // 6)
    chat(client, "s").add_messages([AIMessage(huge[: 8 * MIB - 1000])])
    say(client, "s", *(["<b>" * 100_000] * 49))
    assert archive_session(services, "s").messages == 50
    page = console.get(PATH, id="s")
    assert page.source.count("<li id=") == 50
    assert len(page.source) < 4 * MIB
    assert "a large message" in page.text
    part = console.get(page.link("Show all of message 0"))
    assert len(part.source) < MIB
    assert part.status == 200


def test_hostile_messages_stay_text(client: redis.Redis, console: Browser) -> None:
    session = "s<script>alert(1)</script>\x1b"
    hostile = "</pre><script>alert(1)</script>\x1b[2J\u202e{{ 7 * 7 }}\x00'\""
    call = {"name": f"tool{hostile}", "args": {"text": hostile}, "id": "1"}
    chat(client, session).add_messages([AIMessage(hostile, tool_calls=[call]), ToolMessage(hostile, tool_call_id="1")])
    page = console.get(PATH, id=session)
    assert page.status == 200
    for source in (page.source, console.get(PATH, id=session, message="0", form="json").source):
        assert "<script>alert" not in source
        assert not any(each in source for each in "\x1b\u202e\x00")
    assert texts(page)[0] == "</pre><script>alert(1)</script>\\x1b[2J\\u202e{{ 7 * 7 }}\\x00'\""


def test_a_message_that_can_t_be_read_is_shown_as_such_among_the_others(
    client: redis.Redis, services: Services, console: Browser
) -> None:
    say(client, "s", "before")
    services.sessions.append("s", [b'{"neither": "message nor item", "data": 1}'], owner=ANY_OWNER)
    say(client, "s", "after")
    page = console.get(PATH, id="s")
    assert texts(page) == ["before", "after"]
    assert "Can't be read:" in page.text
    raw = console.get(PATH, id="s", message="1", form="json")
    assert texts(raw) == ['{"neither": "message nor item", "data": 1}']


def test_a_thread_of_langgraph_is_shown_by_its_steps(client: redis.Redis, services: Services, console: Browser) -> None:
    graphs.begin("agent", MemorystoreSaver(client))
    assert archive_session(services, "s").error is None
    page = console.get(PATH, id="s")
    assert "records of a thread" in page.text
    assert re.search(r"step -1, input checkpoint", page.text)
    assert re.search(r"model wrote writes", page.text)
    assert "Calls the tool refund" in page.text
    step = next(each for each in page.links if "form=json" in each)
    assert json.loads(texts(console.get(step))[0])["kind"] in {"checkpoint", "writes"}


def test_only_who_may_read_sees_text(client: redis.Redis, services: Services) -> None:
    say(client, "s", "secret words")
    for role, may in ((Role.VIEWER, False), (Role.OPERATOR, False), (Role.READER, True), (Role.OFFICER, True)):
        with browser(services, role) as console:
            page = console.get(PATH, id="s")
            assert (page.status, "secret words" in page.text) == ((200, True) if may else (403, False))
            assert ("Show the transcript" in console.get("/session", id="s").text) is may


def test_where_a_reason_is_required_it_is_asked_for_and_recorded_once_for_each_session(
    client: redis.Redis, services: Services
) -> None:
    say(client, "s", *(f"words {number}" for number in range(60)))
    say(client, "other", "other words")
    strict = replace(services, settings=services.settings.model_copy(update={"require_reason": True}))
    with browser(strict) as console:
        asked = console.get(PATH, id="s")
        assert "requires a reason" in asked.text
        assert "words 0" not in asked.text
        assert console.post(f"{PATH}/reason?id=s", {"reason": "  "}).status == 400
        assert not entries_of(services)
        page = console.post(f"{PATH}/reason?id=s", {"reason": "ticket 7"})
        assert texts(page)[0] == "words 0"
        assert texts(console.get(PATH, id="s", page="2"))[0] == "words 50"
        assert "requires a reason" in console.get(PATH, id="other").text
    assert [(each.begun.by, each.begun.reason) for each in entries_of(services)] == [(READER, "ticket 7")] * 2


def test_what_nobody_has_and_what_was_purged_is_said_so(
    client: redis.Redis, sessions: SessionStore, console: Browser
) -> None:
    assert console.get(PATH, id="nobody").status == 404
    say(client, "gone")
    sessions.purge([PurgeTarget("gone", "ann")], "purge-1", tombstone=timedelta(hours=1))
    page = console.get(PATH, id="gone")
    assert (page.status, "was purged" in page.text) == (404, True)
    say(client, "s")
    assert console.get(PATH, id="s", message="1").status == 400
    assert console.get(PATH, id="s", message="0", form="xml").status == 400
