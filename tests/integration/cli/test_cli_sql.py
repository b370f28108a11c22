"""torpor sql: a view of the archive for a query engine, wherever the archive is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from support.command import Torpor, is_refused
from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.transfer.speech import speeches
from torpor.worker.transfer.views import Engine

BLOCKS: list[str | dict[Any, Any]] = [
    "a ",
    {"type": "text", "text": "b"},
    {"type": "image_url", "image_url": {"url": "x"}},
    {"type": "reasoning", "text": "not said"},
]
CALL = {"name": "find", "args": {"ID": 7, "id": "é"}, "id": "call-1"}
CHAT: list[BaseMessage] = [
    HumanMessage(content=BLOCKS),
    AIMessage("", tool_calls=[CALL]),
    ToolMessage("found", tool_call_id="call-1"),
    AIMessage("It arrives.\non Friday"),
]
ITEMS = [
    b'{"role":"user","content":"Where is my order?"}',
    b'{"type":"function_call","call_id":"c1","name":"find","arguments":"{}"}',
    b'{"type":"function_call_output","call_id":"c1","output":"on its way"}',
    b'{"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"thought"}]}',
    b'{"type":"message","role":"assistant","content":[{"text":"On"},{"refusal":"no"},{"text":"Friday."}]}',
]


def rows(statement: str) -> list[dict[str, Any]]:
    with duckdb.connect() as database:
        database.execute(statement)
        found = database.execute("select * from torpor_messages order by session, sequence")
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_the_view_of_duckdb_has_the_texts_and_the_calls_that_show_prints(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    MemorystoreChatMessageHistory(client, "chat").add_messages(CHAT[:2])
    archive_session(services, "chat")
    MemorystoreChatMessageHistory(client, "chat").add_messages(CHAT[2:])
    archive_session(services, "chat")
    services.sessions.append("items", ITEMS)
    archive_session(services, "items")
    found = rows(torpor("sql", "duckdb").out)
    stored = {session_id: read_transcript(services, session_id) for session_id in ("chat", "items")}
    shown = [each for elements in stored.values() for each in speeches(elements, [])]
    assert [row["text"] or "" for row in found] == [each.text for each in shown]
    assert [(row["session"], row["sequence"]) for row in found] == [
        (session_id, number) for session_id, elements in stored.items() for number in range(len(elements))
    ]
    assert [row["message"].encode() for row in found if row["session"] == "items"] == ITEMS
    calls = [call for row in found for call in row["tool_calls"] or []]
    assert calls == [
        {"id": "call-1", "name": "find", "arguments": '{"ID":7,"id":"é"}'},
        {"id": "c1", "name": "find", "arguments": "{}"},
    ]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_the_folder_of_the_archive_may_have_any_name(
    client: redis.Redis, services: Services, torpor: Torpor, scratch: Path
) -> None:
    MemorystoreChatMessageHistory(client, "chat").add_messages(CHAT)
    archive_session(services, "chat")
    odd = scratch / "it's [a] {1,2} *"
    (scratch / "archive").rename(odd)
    assert len(rows(torpor("sql", "duckdb", ARCHIVE_URL=odd.as_uri()).out)) == len(CHAT)
    assert is_refused(torpor("sql", "clickhouse", ARCHIVE_URL=odd.as_uri()), "* { }")
    assert is_refused(torpor("sql", "duckdb", ARCHIVE_URL=(scratch / "a\\b").as_uri()), "\\")
    for engine in ("duckdb", "clickhouse"):
        assert is_refused(torpor("sql", engine, ARCHIVE_URL=(scratch / "a\x1b[31m").as_uri()), "control characters")
    quoted = scratch / "it's \\ odd"
    assert f"file('{scratch}/it\\'s \\\\ odd/v1/" in torpor("sql", "clickhouse", ARCHIVE_URL=quoted.as_uri()).out


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize(
    ("engine", "place"),
    [
        (Engine.DUCKDB, "'gs://my-bucket/a/b/v1/*/*/*/*.jsonl.gz'"),
        (Engine.CLICKHOUSE, "gcs('https://storage.googleapis.com/my-bucket/a/b/v1/*/*/*/*.jsonl.gz', 'HMAC_KEY'"),
        (Engine.BIGQUERY, "uris = ['gs://my-bucket/a/b/v1/*.jsonl.gz']"),
    ],
)
def test_a_view_can_be_of_a_bucket(torpor: Torpor, engine: Engine, place: str) -> None:
    said = torpor("sql", engine, ARCHIVE_URL="gs://my-bucket/a/b/")
    assert said.code == 0
    assert place in said.out
    assert "<" not in said.out


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_bigquery_reads_no_folder(torpor: Torpor) -> None:
    assert is_refused(torpor("sql", "bigquery"), "bucket")
