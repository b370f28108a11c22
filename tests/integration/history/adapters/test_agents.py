"""MemorystoreSession with the real OpenAI Agents SDK: a model that needs no network, a real Redis, an archive."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from agents import Agent, RunConfig, Runner, Session, SessionSettings, function_tool
from langchain_core.messages import HumanMessage
from openai.types.responses import ResponseInputItemParam
from pydantic import BaseModel

from support.command import Torpor
from support.fake_models import AgentParrot
from support.keyspace import raw
from support.servers import RedisServer
from support.sessions import purge_session
from support.transcripts import read_transcript
from torpor import AsyncSessionStore, MemorystoreChatMessageHistory, MemorystoreSession
from torpor.history.protocol import (
    ClientMismatch,
    Expiry,
    InvalidArgument,
    InvalidExpiry,
    MessageCorrupt,
    MessageNotSerializable,
    OwnerMismatch,
    SessionHeld,
    SessionIncomplete,
    SessionPurged,
)
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.session_archive import SessionArchive

Body = Callable[[MemorystoreSession], Awaitable[Any]]
OFFLINE = RunConfig(tracing_disabled=True)


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Sessions:
    """Runs a test's coroutine with sessions over a client of asyncio that is closed in the end."""

    def __init__(self, server: RedisServer, services: Services) -> None:
        self._server = server
        self.services = services
        self.archive = SessionArchive(services.archive.url)

    def run(self, body: Body, session_id: str = "s", **options: Any) -> Any:
        async def connected() -> Any:
            async with self.client() as client:
                return await body(MemorystoreSession(client, session_id, **{"archive": self.archive} | options))

        return asyncio.run(connected())

    def client(self) -> Any:
        options: dict[str, Any] = {"host": "127.0.0.1", "port": self._server.port}
        if self._server.settings.get("redis_cluster"):
            return redis.asyncio.RedisCluster(**options)
        return redis.asyncio.Redis(**options, username=self._server.user, password=self._server.password)

    def sleep(self, session_id: str = "s") -> None:
        assert archive_session(self.services, session_id).outcome is Outcome.ARCHIVED

    def read(self, **options: Any) -> Any:
        return self.run(lambda session: session.get_items(), **options)


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.fixture
def agents(redis_server: RedisServer, services: Services) -> Sessions:
    return Sessions(redis_server, services)


def said(*texts: str) -> list[ResponseInputItemParam]:
    return [{"role": "user", "content": text} for text in texts]


def item(value: Any) -> ResponseInputItemParam:
    """An item, also of a form that the SDK's types do not know."""
    found: ResponseInputItemParam = value
    return found


# The Runner


def test_the_runner_remembers_the_turns_of_before_also_after_the_session_has_slept(agents: Sessions) -> None:
    model = AgentParrot()
    agent = Agent(name="parrot", model=model)

    async def turn(session: MemorystoreSession) -> str:
        result = await Runner.run(agent, f"turn {len(model.inputs)}", session=session, run_config=OFFLINE)
        return str(result.final_output)

    assert agents.run(turn) == "1 items"
    assert agents.run(turn) == "3 items"
    agents.sleep()
    assert agents.run(turn) == "5 items"
    said = [each["content"] for each in model.inputs[-1] if each.get("role") == "user"]
    assert said == ["turn 0", "turn 1", "turn 2"]
    assert len(agents.read()) == 6


def test_tool_calls_and_their_outputs_come_back_as_the_sdk_gave_them(agents: Sessions) -> None:
    model = AgentParrot()
    agent = Agent(name="parrot", model=model, tools=[weather])

    async def turn(session: MemorystoreSession) -> None:
        await Runner.run(agent, "How is the weather?", session=session, run_config=OFFLINE)

    agents.run(turn)
    agents.sleep()
    question, call, output, answer = agents.read()
    assert question == {"role": "user", "content": "How is the weather?"}
    assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Zürich"})
    assert (output["call_id"], output["output"]) == (call["call_id"], "sunny in Zürich")
    assert answer["content"][0]["text"] == "3 items"
    agents.run(turn)
    assert model.inputs[-1][:4] == [question, call, output, answer]


def test_it_is_a_session_of_the_sdk(agents: Sessions) -> None:
    async def check(session: MemorystoreSession) -> bool:
        typed: Session = session
        return isinstance(typed, Session)

    assert agents.run(check)


# The protocol


def test_items_are_read_oldest_first_and_the_last_of_them_alone(agents: Sessions) -> None:
    async def converse(session: MemorystoreSession) -> None:
        await session.add_items(said("a", "b"))
        await session.add_items(said("c"))
        assert await session.get_items() == said("a", "b", "c")
        assert await session.get_items(2) == said("b", "c")
        assert await session.get_items(limit=9) == said("a", "b", "c")
        assert await session.get_items(0) == []

    agents.run(converse)


@pytest.mark.single_node(reason="it asks a node how much it has sent")
def test_the_last_items_are_read_without_the_rest(
    client: redis.Redis, agents: Sessions, redis_server: RedisServer
) -> None:
    agents.run(lambda session: session.add_items(said(*(str(number) for number in range(1_000)))))
    agents.read()  # complete from here on
    before = raw(client, "INFO", "stats")["total_net_output_bytes"]
    assert agents.run(lambda session: session.get_items(3)) == said("997", "998", "999")
    assert raw(client, "INFO", "stats")["total_net_output_bytes"] - before < 10_000


def test_the_limit_of_the_session_settings_counts_where_none_is_given(agents: Sessions) -> None:
    async def converse(session: MemorystoreSession) -> None:
        await session.add_items(said("a", "b", "c"))
        assert await session.get_items() == said("b", "c")
        assert await session.get_items(1) == said("c")

    agents.run(converse, session_settings=SessionSettings(limit=2))
    assert agents.read(session_settings=SessionSettings()) == said("a", "b", "c")


@pytest.mark.parametrize("settings", [{"limit": 2}, SessionSettings(limit=2)], ids=["dict", "object"])
def test_session_settings_are_taken_as_the_sdk_s_own_sessions_take_them(agents: Sessions, settings: Any) -> None:
    async def converse(session: MemorystoreSession) -> None:
        await session.add_items(said("a", "b", "c"))
        assert await session.get_items() == said("b", "c")
        assert session.session_settings == SessionSettings(limit=2)
        session.session_settings = {"limit": 1}
        assert await session.get_items() == said("c")
        await Runner.run(Agent("bot", model=AgentParrot()), "d", session=session, run_config=OFFLINE)
        await session.close()
        assert await session.get_items(limit=9)  # the client is not the session's to close

    agents.run(converse, session_settings=settings)


@pytest.mark.parametrize("settings", [{"limits": 2}, {"limit": "two"}])
def test_wrong_session_settings_are_refused_at_once(agents: Sessions, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="session settings"):
        agents.run(lambda session: session.get_items(), session_settings=settings)


def test_the_last_item_is_taken_back_and_none_where_there_is_none(agents: Sessions) -> None:
    async def converse(session: MemorystoreSession) -> None:
        assert await session.pop_item() is None
        await session.add_items(said("a", "b"))
        assert [await session.pop_item() for _ in range(3)] == [*said("b"), *said("a"), None]
        await session.add_items(said("c"))
        assert await session.get_items() == said("c")

    agents.run(converse)


def test_what_sleeps_is_woken_before_its_last_item_is_taken_back(agents: Sessions) -> None:
    agents.run(lambda session: session.add_items(said("a", "b")))
    agents.sleep()
    with pytest.raises(SessionIncomplete):
        agents.run(add_and_pop, archive=None)
    assert agents.run(lambda session: session.pop_item()) == item({"role": "user", "content": "c"})
    assert agents.run(lambda session: session.pop_item()) == item({"role": "user", "content": "b"})
    agents.sleep()
    assert agents.read() == said("a")


async def add_and_pop(session: MemorystoreSession) -> None:
    await session.add_items(said("c"))
    await session.pop_item()


def test_a_session_that_was_cleared_is_empty_and_can_go_on(agents: Sessions) -> None:
    async def converse(session: MemorystoreSession) -> None:
        await session.add_items(said("a", "b"))
        await session.clear_session()
        assert await session.get_items() == []
        await session.add_items(said("c"))
        assert await session.get_items() == said("c")

    agents.run(converse)


def test_adding_nothing_makes_no_session(client: redis.Redis, agents: Sessions) -> None:
    agents.run(lambda session: session.add_items([]))
    assert raw(client, "KEYS", "*") == [b"torpor:config"]


def test_items_that_many_add_at_once_are_all_there_each_turn_together(agents: Sessions) -> None:
    async def converse(session: MemorystoreSession) -> list[Any]:
        await asyncio.gather(*(session.add_items(said(f"{n} asks", f"{n} again")) for n in range(50)))
        return list(await session.get_items())

    texts = [each["content"] for each in agents.run(converse)]
    assert sorted(texts) == sorted(text for n in range(50) for text in (f"{n} asks", f"{n} again"))
    assert all(again == f"{asks.split()[0]} again" for asks, again in zip(texts[::2], texts[1::2], strict=True))


def test_many_who_take_back_at_once_get_each_item_once(agents: Sessions) -> None:
    async def converse(session: MemorystoreSession) -> list[Any]:
        await session.add_items(said(*(str(number) for number in range(8))))
        return await asyncio.gather(*(session.pop_item() for _ in range(10)))

    found = agents.run(converse)
    assert sorted(each["content"] for each in found if each) == [str(number) for number in range(8)]
    assert found.count(None) == 2
    assert agents.read() == []


def test_a_sleeping_session_that_many_read_at_once_is_woken_once(agents: Sessions) -> None:
    agents.run(lambda session: session.add_items(said("a")))
    agents.sleep()

    async def read(session: MemorystoreSession) -> list[Any]:
        return await asyncio.gather(*(session.get_items() for _ in range(20)))

    assert agents.run(read) == [said("a")] * 20
    assert sum(shard.restored for shard in agents.services.sessions.overview()) == 1


# Expiry, owners, erasure


def test_a_session_has_the_expiry_and_the_owner_that_it_was_given(agents: Sessions) -> None:
    agents.run(
        lambda session: session.add_items(said("a")), ttl=60, max_age=3600, archive_retention=86_400, owner="ann"
    )
    info = agents.services.sessions.info("s")
    assert info
    assert info.owner == "ann"
    assert info.expiry == Expiry(timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))
    with pytest.raises(OwnerMismatch):
        agents.run(lambda session: session.add_items(said("b")), owner="bob")
    with pytest.raises(InvalidExpiry):
        agents.run(lambda session: session.get_items(), ttl=0)


def test_a_session_under_a_hold_is_neither_cleared_nor_taken_back_from(agents: Sessions) -> None:
    agents.run(lambda session: session.add_items(said("a")))
    agents.read()
    agents.services.sessions.hold("s", "a dispute")
    attempts: Sequence[Body] = (lambda session: session.pop_item(), lambda session: session.clear_session())
    for attempt in attempts:
        with pytest.raises(SessionHeld, match="a dispute"):
            agents.run(attempt)
    assert agents.read() == said("a")


def test_a_purged_session_refuses_late_items(client: redis.Redis, agents: Sessions) -> None:
    agents.run(lambda session: session.add_items(said("a")))
    agents.sleep()
    purge_session(agents.services, "s")
    assert agents.read() == []
    with pytest.raises(SessionPurged):
        agents.run(lambda session: session.add_items(said("b")))
    agents.run(lambda session: session.add_items(said("c")), allow_reuse=True)
    assert agents.read() == said("c")


def test_a_session_that_is_closed_goes_to_sleep_at_once(agents: Sessions) -> None:
    async def converse(session: MemorystoreSession) -> None:
        await session.add_items(said("a"))
        async with agents.client() as client:
            assert await AsyncSessionStore(client).close("s")

    agents.run(converse)
    assert sum(agents.services.sessions.due_counts().values()) == 1


# The values that items can have

STRANGE: list[Any] = [
    {"role": "user", "content": "Wie geht's? 😀 \n\u2028 \x00"},
    {"role": "user", "content": [{"type": "input_text", "text": "ü"}, {"type": "input_image", "image_url": "data:,"}]},
    {"type": "reasoning", "id": "rs-1", "summary": [], "encrypted_content": None},
    {"type": "x", "number": 2**80, "small": -0.0, "float": 1e300, "half": "\ud800", "deep": {"": [[], {}, None, True]}},
    {"type": "compaction", "encrypted_content": "x" * 100_000},
]


def test_items_come_back_equal_whatever_they_hold(agents: Sessions) -> None:
    agents.run(lambda session: session.add_items(STRANGE))
    assert agents.read() == STRANGE
    agents.sleep()
    assert agents.read() == STRANGE


def test_numbers_that_are_none_are_kept_as_python_s_json_does(agents: Sessions) -> None:
    agents.run(
        lambda session: session.add_items([item({"type": "x", "nan": math.nan, "inf": math.inf, "pair": (1, 2)})])
    )
    agents.sleep()
    [back] = agents.read()
    assert math.isnan(back["nan"])
    assert (back["inf"], back["pair"]) == (math.inf, [1, 2])


class Note(BaseModel):
    text: str
    colour: str = "red"


def test_a_model_of_pydantic_is_stored_as_the_sdk_dumps_it(agents: Sessions) -> None:
    agents.run(lambda session: session.add_items([item(Note(text="a")), item(AgentParrot.message("b"))]))
    note, message = agents.read()
    assert note == {"text": "a"}
    assert (message["role"], message["content"][0]["text"]) == ("assistant", "b")


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"role": "user", "content": [{"text": b"secret"}]}, r"the bytes at item\.content\[0\]\.text"),
        ({"role": "user", ("secret",): 1}, "the tuple key in item"),
        ({"role": "user", "content": {"secret"}}, r"the set at item\.content"),
        ("secret", "expected an item of the Agents SDK, not str"),
    ],
)
def test_what_json_can_not_hold_is_refused_with_its_place_and_nothing_is_written(
    client: redis.Redis, agents: Sessions, wrong: Any, place: str
) -> None:
    with pytest.raises(MessageNotSerializable, match=place) as caught:
        agents.run(lambda session: session.add_items([*said("a"), wrong]))
    assert "secret" not in str(caught.value)
    assert raw(client, "KEYS", "*") == [b"torpor:config"]


@pytest.mark.parametrize("element", [b"not JSON: secret", b"[]", b'"secret"', b"\xff", b"", b"[" * 100_000])
def test_a_corrupt_element_is_left_out_named_by_its_position_and_popped_with_the_item_before_it(
    agents: Sessions, caplog: pytest.LogCaptureFixture, element: bytes
) -> None:
    agents.run(lambda session: session.add_items(said("a", "b")))
    agents.read()
    agents.services.sessions.append("s", [element], max_depth=None)
    assert agents.read() == said("a", "b")
    assert "session 's': item 2 can't be read and is left out" in caplog.text
    assert "secret" not in caplog.text
    assert agents.services.sessions.messages("s")[2] == element
    assert agents.run(MemorystoreSession.pop_item) == said("b")[0]
    assert agents.read() == said("a")
    agents.services.sessions.append("s", [element], max_depth=None)
    agents.run(lambda session: session.add_items(said("c")))
    assert agents.run(MemorystoreSession.pop_item) == said("c")[0]
    assert agents.run(MemorystoreSession.pop_item) == said("a")[0]
    assert agents.run(MemorystoreSession.pop_item) is None


def test_who_reads_what_another_library_has_written_is_told_so(client: redis.Redis, agents: Sessions) -> None:
    MemorystoreChatMessageHistory(client, "langchain").add_messages([HumanMessage("hello")])
    with pytest.raises(MessageCorrupt, match="item 0 of session 'langchain'"):
        agents.read(session_id="langchain")
    agents.run(lambda session: session.add_items(said("a")))
    with pytest.raises(MessageCorrupt, match="message 0 of session 's'"):
        _ = MemorystoreChatMessageHistory(client, "s").messages


# The client


def test_a_blocking_client_is_refused_at_once(client: redis.Redis) -> None:
    with pytest.raises(ClientMismatch, match="needs one of asyncio"):
        MemorystoreSession(client, "s")


# The command


def test_a_session_is_shown_and_exported_as_any_other(agents: Sessions, torpor: Torpor) -> None:
    agent = Agent(name="parrot", model=AgentParrot(), tools=[weather])

    async def turn(session: MemorystoreSession) -> None:
        await Runner.run(agent, "How is the weather?\n\x1b[2J", session=session, run_config=OFFLINE)
        await session.add_items([item({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]})])

    agents.run(turn)
    for where in ("live", "asleep"):
        shown = torpor("show", "s").out
        assert shown.splitlines() == [
            "user",
            "  How is the weather?",
            r"  \x1b[2J",
            "assistant",
            '  -> weather({"city": "Zürich"})',
            "tool",
            "  sunny in Zürich",
            "assistant",
            "  3 items",
            "reasoning",
            "  Hm.",
        ], where
        exported = json.loads(torpor("export", "s").out)
        assert exported["messages"] == agents.read()
        assert len(read_transcript(agents.services, "s")) == 5
        if where == "live":
            agents.sleep()
