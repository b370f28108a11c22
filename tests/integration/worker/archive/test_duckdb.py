"""Anybody reads the archive: DuckDB and gzip, with nothing of Torpor's and nothing from the network."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import duckdb
import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.keyspace import raw
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

GLOB = "v1/*/*/*/*.jsonl.gz"
SESSIONS = ["plain", "a/b", "x" * 300, "Wie geht's? 😀"]


@pytest.fixture
def folder(archive_url: str) -> Path:
    return Path(unquote(urlsplit(archive_url).path))


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB that may not fetch or load an extension: what it can do here it can do without a network."""
    settings = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(config=settings) as connection:  # type: ignore[arg-type]
        yield connection


def written(client: redis.Redis, services: Services) -> None:
    """Sessions of two epochs each, one with an element that is not JSON."""
    for turn in range(2):
        for session_id in SESSIONS:
            chat = MemorystoreChatMessageHistory(client, session_id, owner="ann")
            chat.add_messages([HumanMessage(f"turn {turn}\n😀"), AIMessage("yes", id="run-1")])
            if session_id == "plain" and turn:
                [key] = raw(client, "KEYS", "*:m:plain")
                raw(client, "RPUSH", key, b"\xff")
            assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def rows(database: duckdb.DuckDBPyConnection, query: str, folder: Path) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = database.execute(query, [str(folder / GLOB)]).fetchall()
    return found


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_duckdb_reads_the_segments_as_they_are(
    client: redis.Redis, services: Services, folder: Path, database: duckdb.DuckDBPyConnection
) -> None:
    written(client, services)
    columns = rows(database, "describe from read_json(?)", folder)
    assert [column[:2] for column in columns][:4] == [
        ("session_id", "VARCHAR"),
        ("epoch", "BIGINT"),
        ("seq", "BIGINT"),
        ("at", "BIGINT"),
    ]
    assert {column[0] for column in columns[4:]} == {"message", "raw"}

    per_session = rows(database, "select session_id, count(*) from read_json(?) group by all", folder)
    assert dict(per_session) == {session_id: 4 + (session_id == "plain") for session_id in SESSIONS}

    spoken = rows(
        database,
        "select message.type, message.data.content from read_json(?) where session_id = 'a/b' order by epoch, seq",
        folder,
    )
    assert spoken == [("human", "turn 0\n😀"), ("ai", "yes"), ("human", "turn 1\n😀"), ("ai", "yes")]

    assert rows(database, "select session_id, from_base64(raw) from read_json(?) where raw is not null", folder) == [
        ("plain", b"\xff")
    ]
    years = rows(database, 'select distinct year(make_timestamp("at" * 1000)) from read_json(?)', folder)
    assert len(years) <= 2
    assert all(2020 < year < 2100 for (year,) in years)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_gzip_of_the_command_line_reads_every_segment(client: redis.Redis, services: Services, folder: Path) -> None:
    written(client, services)
    files = sorted(folder.glob(GLOB))
    assert len(files) == 2 * len(SESSIONS)
    plain = subprocess.run(["gzip", "-dc", *files], capture_output=True, check=True).stdout
    lines = [json.loads(line) for line in plain.splitlines()]
    assert len(lines) == 4 * len(SESSIONS) + 1
    assert {tuple(line) for line in lines} == {
        ("session_id", "epoch", "seq", "at", "message"),
        ("session_id", "epoch", "seq", "at", "raw"),
    }
    assert {line["session_id"] for line in lines} == set(SESSIONS)
