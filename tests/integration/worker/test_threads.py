"""What the worker and the command do with LangGraph threads: the same as with chats, and readably."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import duckdb
import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from support.command import Torpor
from support.keyspace import dump, raw
from support.paths import ROOT
from support.purging import of_sessions
from support.savers import checkpoint, config
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory, MemorystoreSaver, MemorystoreSession
from torpor.history.protocol import KindMismatch, SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.session_archive import SessionArchive

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)

METADATA: Any = {"source": "loop", "step": 0, "parents": {}}


class Own(BaseModel):
    """A class of an application, which no reader may import."""

    secret: str = "kept"


def written(client: redis.Redis, thread: str = "s", owner: str | None = None) -> MemorystoreSaver:
    """Two steps of a graph: a question, and an answer with a value of the application's own class."""
    saver = MemorystoreSaver(client, owner=owner)
    question, answer = HumanMessage("Where is my order? ".ljust(100)), AIMessage("It arrives on Friday. ".ljust(100))
    version = saver.get_next_version(None, None)
    first = checkpoint({"messages": [question]}, {"messages": version})
    where = saver.put(config(thread), first, METADATA, {"messages": version})
    saver.put_writes(where, [("messages", [answer]), ("own", Own())], "task-1", "~__pregel_pull, model")
    then = {"messages": saver.get_next_version(version, None), "own": version}
    second = checkpoint({"messages": [question, answer], "own": Own()}, then)
    later: Any = {**METADATA, "step": 1}
    saver.put(where, second, later, dict(then))
    return saver


def sleep(services: Services, thread: str = "s") -> None:
    assert archive_session(services, thread).outcome is Outcome.ARCHIVED


def segments(services: Services) -> list[Path]:
    return sorted(Path(unquote(urlsplit(services.archive.url).path)).rglob("*.jsonl.gz"))


def test_a_segment_has_each_record_as_it_is_and_what_can_be_read_of_it(
    client: redis.Redis, services: Services, sessions: SessionStore
) -> None:
    written(client)
    stored = sessions.messages("s", touch=False)
    sleep(services)
    [segment] = segments(services)
    lines = [json.loads(line) for line in gzip.decompress(segment.read_bytes()).splitlines()]
    assert [b64decode(line["raw"]) for line in lines] == stored
    records = [line["record"] for line in lines]
    assert [(each["kind"], each.get("step"), each.get("source")) for each in records] == [
        ("checkpoint", 0, "loop"),
        ("writes", None, None),
        ("checkpoint", 1, "loop"),
    ]
    spoken = [[message["data"]["content"].strip() for message in each["messages"]] for each in records]
    assert spoken == [["Where is my order?"], ["It arrives on Friday."], ["It arrives on Friday."]]
    assert records[1]["channels"] == ["messages", "own"]
    assert records[2]["parent"] == records[0]["id"] == records[1]["id"]


def test_the_query_of_the_page_counts_the_messages_of_threads(
    client: redis.Redis, services: Services, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(client)
    sleep(services)
    MemorystoreChatMessageHistory(client, "chat").add_messages([HumanMessage("hello")])
    sleep(services, "chat")
    page = (ROOT / "docs" / "langgraph.md").read_text(encoding="utf-8")
    [query] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(scratch)
    settings = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(config=settings) as connection:  # type: ignore[arg-type]
        found = connection.execute(query).fetchall()
    assert sorted(found) == [("s", "ai", 1), ("s", "human", 1)]


@pytest.mark.parametrize("asleep", [False, True])
def test_show_lists_the_steps_the_nodes_and_the_messages(
    client: redis.Redis, services: Services, torpor: Torpor, *, asleep: bool
) -> None:
    written(client)
    if asleep:
        sleep(services)
    shown = torpor("show", "s")
    assert shown.code == 0, shown
    lines = [line.strip() for line in shown.out.splitlines() if not line.startswith("  [1")]
    assert lines == [
        "step 0, loop",
        "human",
        "Where is my order?",
        "model wrote",
        "[messages]",
        "[own]",
        "step 1, loop",
        "ai",
        "It arrives on Friday.",
    ]


def test_sessions_says_which_are_threads(client: redis.Redis, torpor: Torpor) -> None:
    written(client)
    MemorystoreChatMessageHistory(client, "chat").add_user_message("hello")
    kinds = {each["session_id"]: each["kind"] for each in torpor("sessions", "--json").lines}
    assert kinds == {"s": "thread", "chat": "chat"}
    assert "thread" in torpor("sessions").out


def test_a_thread_makes_the_round_through_an_export_and_an_import(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    saver = written(client, owner="ann")
    before = list(saver.list(config()))
    sleep(services)
    file = tmp_path / "all.jsonl"
    assert torpor("export", "--all", "-o", str(file)).code == 0
    elsewhere = {"NAMESPACE": "elsewhere", "ARCHIVE_URL": (tmp_path / "new").as_uri()}
    assert torpor("import", str(file), **elsewhere).code == 0
    assert list(MemorystoreSaver(client, owner="ann", namespace="elsewhere").list(config())) == before
    assert torpor("archive", "s", **elsewhere).code == 0
    assert torpor("restore", "s", **elsewhere).code == 0
    assert list(MemorystoreSaver(client, owner="ann", namespace="elsewhere").list(config())) == before


def test_the_doctor_names_a_damaged_record_and_no_sound_one(client: redis.Redis, torpor: Torpor) -> None:
    written(client)
    assert torpor("doctor").code == 0
    [messages] = raw(client, "KEYS", "*:m:s")
    raw(client, "LSET", messages, 1, b"\x02\x00")
    assert "message 1; 1 of 3" in torpor("doctor").said


def test_one_purge_takes_an_owners_chats_agents_sessions_and_threads_with_one_receipt(
    client: redis.Redis, services: Services, redis_server: RedisServer, torpor: Torpor
) -> None:
    MemorystoreChatMessageHistory(client, "chat", owner="ann").add_user_message("hello")

    async def in_agents() -> None:
        async with redis_server.asyncio_client() as connected:
            await MemorystoreSession(connected, "agents", owner="ann").add_items([{"role": "user", "content": "hi"}])

    if not redis_server.settings.get("redis_cluster"):
        asyncio.run(in_agents())
    else:
        services.sessions.append("agents", [b'{"role":"user","content":"hi"}'], owner="ann")
    written(client, "asleep", owner="ann")
    sleep(services, "asleep")
    written(client, "thread", owner="ann")
    written(client, "bobs", owner="bob")
    purged = torpor("purge", "--owner", "ann", "--yes", "--json")
    assert purged.code == 0, purged
    [receipt] = torpor("receipts", "--json").lines
    assert (receipt["found"]["sessions"], receipt["removed"]["messages"]) == (4, 8)
    assert services.sessions.info("bobs")
    saver = MemorystoreSaver(client, owner="ann", archive=SessionArchive(services.archive.url))
    assert [list(saver.list(config(each))) for each in ("asleep", "thread")] == [[], []]
    assert not raw(client, "KEYS", "*:i:thread")
    assert [name for name in of_sessions(services) if not name.endswith("/floor")] == []


@pytest.mark.parametrize("asleep", ["thread", "chat"])
def test_a_first_write_to_a_sleeping_session_of_the_other_kind_is_refused(
    client: redis.Redis, services: Services, asleep: str
) -> None:
    if asleep == "thread":
        written(client)
    else:
        MemorystoreChatMessageHistory(client, "s").add_messages([HumanMessage("hello")])
    sleep(services)
    before = dump(client)
    archive = SessionArchive(services.archive.url)

    with pytest.raises(KindMismatch):
        if asleep == "thread":
            MemorystoreChatMessageHistory(client, "s", archive=archive).add_messages([HumanMessage("hello")])
        else:
            MemorystoreSaver(client, archive=archive).put(config(), checkpoint({}, {}), METADATA, {})
    assert dump(client) == before

    if asleep == "thread":
        MemorystoreSaver(client, archive=archive).put(config(), checkpoint({}, {}), METADATA, {})
    else:
        MemorystoreChatMessageHistory(client, "s", archive=archive).add_messages([HumanMessage("hello again")])
