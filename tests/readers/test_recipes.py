"""Each recipe of docs/reading-the-archive.md reads every message of an archive that has everything odd."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis
import sqlglot
from sqlglot import expressions

from support.command import Torpor
from support.odd_archive import fill
from support.paths import ROOT
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)

PAGE = (ROOT / "docs" / "reading-the-archive.md").read_text(encoding="utf-8")
COLUMNS = {"session_id", "epoch", "seq", "at", "message", "record", "raw"}
# In a process of its own: the engines have threads of their own, and warn of each other's versions.
_PROCESS = """
import json, sys
exec(sys.stdin.read())
json.dump(rows(), open(sys.argv[1], "w"))
"""
_FRAMES = {
    "polars": "def rows(): return messages.to_dicts()",
    "pyarrow": "def rows(): return messages.to_pylist()",
    "pandas": "def rows(): return messages.astype(object).where(messages.notna(), None).to_dict('records')",
}
_CHDB = """
from chdb.session import Session
def rows():
    session = Session()
    session.query("create database own engine = Atomic")
    session.query("use own")
    session.query({statement!r})
    said = session.query("select * from {view} order by {order}", "JSONEachRow").data()
    return [json.loads(line) for line in said.splitlines()]
"""


def recipe(engine: str, language: str) -> str:
    section = PAGE.partition(f"\n## {engine}\n")[2].partition("\n## ")[0]
    [code] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(code)


@pytest.fixture
def stored(
    client: redis.Redis, services: Services, archive_url: str, monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> dict[str, list[bytes]]:
    """What the archive holds: the folder `archive` in the working directory."""
    monkeypatch.chdir(scratch)
    return fill(client, services)


def run(program: str, scratch: Path) -> list[dict[str, Any]]:
    """The rows that the function `rows` of a program returns, in a process of its own."""
    found = scratch / "rows.json"
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, str(found)], input=program, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return list(json.loads(found.read_text()))


def check(rows: Iterable[Mapping[str, Any]], stored: dict[str, list[bytes]], *, untouched: bool = False) -> None:
    """Compare rows with what is stored: by the value of the JSON, or by the very bytes if a recipe keeps them."""
    found: dict[str, list[bytes]] = {}
    for row in sorted(rows, key=lambda row: (row["session_id"], int(row["epoch"]), int(row["seq"]))):
        assert set(row) == COLUMNS
        assert bool(row["message"]) is not bool(row["raw"])
        element = base64.b64decode(row["raw"]) if row["raw"] else row["message"].encode()
        found.setdefault(row["session_id"], []).append(element)
        if row["record"]:
            assert json.loads(row["record"])["kind"] in ("checkpoint", "writes")
    assert found.keys() == stored.keys()
    for session_id, elements in found.items():
        if untouched:
            assert elements == stored[session_id]
        else:
            assert list(map(value, elements)) == list(map(value, stored[session_id]))


def value(element: bytes | str) -> Any:
    try:
        return json.loads(element)
    except ValueError:
        return element


def parsed(statements: str, dialect: str) -> list[Any]:
    return [*sqlglot.parse(statements, dialect=dialect)]


@pytest.mark.parametrize("engine", list(_FRAMES))
def test_a_data_frame_has_every_message_as_it_was_stored(
    stored: dict[str, list[bytes]], scratch: Path, engine: str
) -> None:
    rows = run(recipe(engine, "python") + _FRAMES[engine], scratch)
    check(rows, stored, untouched=True)


def test_the_archive_is_one_that_duckdb_can_not_read_without_names(stored: dict[str, list[bytes]]) -> None:
    with duckdb.connect() as database, pytest.raises(duckdb.Error):
        database.execute("select session_id from read_json('archive/v1/*/*/*/*.jsonl.gz')").fetchall()


def test_duckdb_reads_every_message(stored: dict[str, list[bytes]]) -> None:
    with duckdb.connect() as database:
        database.execute(recipe("DuckDB", "sql"))
        found = database.execute("select * from messages")
        names = [column[0] for column in found.description or []]
        check([dict(zip(names, row, strict=True)) for row in found.fetchall()], stored)


def test_clickhouse_reads_every_message(stored: dict[str, list[bytes]], scratch: Path) -> None:
    program = _CHDB.format(statement=recipe("ClickHouse", "sql"), view="messages", order="session_id, epoch, seq")
    check(run(program, scratch), stored)


def test_gzip_of_the_command_line_reads_every_line(stored: dict[str, list[bytes]]) -> None:
    done = subprocess.run(["bash", "-c", recipe("The command line", "sh")], capture_output=True, check=True)
    lines = {line for line in done.stdout.split(b"\n") if line}
    places = {(line["session_id"], line["epoch"], line["seq"]) for line in map(json.loads, lines)}
    assert len(places) == sum(map(len, stored.values()))


@pytest.mark.parametrize("engine", ["BigQuery", "Spark"])
def test_the_statements_for_other_engines_name_every_column(archive_url: str, engine: str) -> None:
    table, view = parsed(recipe(engine, "sql"), engine.lower())
    assert isinstance(table, expressions.Create)
    assert isinstance(view, expressions.Create)
    assert {column.name for column in table.find_all(expressions.ColumnDef)} == COLUMNS


@pytest.mark.skipif(find_spec("pyspark") is None, reason="needs pyspark and Java")
def test_spark_reads_every_message(stored: dict[str, list[bytes]], scratch: Path) -> None:
    program = f"""
from pyspark.sql import SparkSession
def rows():
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    for statement in {recipe("Spark", "sql")!r}.split(";"):
        if statement.strip():
            spark.sql(statement)
    return [row.asDict() for row in spark.sql("select * from messages").collect()]
"""
    check(run(program, scratch), stored)


# The view of torpor sql


def test_the_views_of_duckdb_and_clickhouse_have_the_same_rows(
    stored: dict[str, list[bytes]], scratch: Path, torpor: Torpor
) -> None:
    with duckdb.connect() as database:
        database.execute(torpor("sql", "duckdb").out)
        found = database.execute("select * from torpor_messages order by session, sequence")
        names = [column[0] for column in found.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    statement = torpor("sql", "clickhouse").out
    others = run(_CHDB.format(statement=statement, view="torpor_messages", order="session, sequence"), scratch)
    assert len(rows) == len(others) == sum(map(len, stored.values()))
    for row, other in zip(rows, others, strict=True):
        assert list(row) == list(other)
        assert f"{row.pop('time'):%Y-%m-%d %H:%M:%S.%f}"[:-3] == other.pop("time")
        assert int(other["sequence"]) == row["sequence"]
        for name in ("session", "kind", "role", "text", "raw", "tool_calls"):
            assert other[name] == (row[name] or type(other[name])())
        for name in ("message", "record"):
            assert value(other[name]) == value(row[name] or "")


def test_the_view_of_bigquery_has_the_columns_of_the_others(torpor: Torpor) -> None:
    said = torpor("sql", "bigquery", ARCHIVE_URL="gs://my-bucket/chats").out
    assert "uris = ['gs://my-bucket/chats/v1/*.jsonl.gz']" in said
    table, view = parsed(said, "bigquery")
    assert {column.name for column in table.find_all(expressions.ColumnDef)} == COLUMNS
    [ours] = parsed(torpor("sql", "duckdb").out, "duckdb")
    assert view.find(expressions.Select).named_selects == ours.find(expressions.Select).named_selects
