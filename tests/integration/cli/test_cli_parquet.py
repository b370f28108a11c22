"""torpor export --parquet: tables with what show prints, complete or not there."""

from __future__ import annotations

import json
import os
import stat
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.parquet
import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage, messages_from_dict

from support.command import Torpor, is_refused
from support.odd_archive import fill
from support.peak import measured
from support.sessions import age
from support.storage_proxy import StorageProxy, answered
from torpor import MemorystoreChatMessageHistory
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.transfer import parquet
from torpor.worker.transfer.parquet import SCHEMA
from torpor.worker.transfer.speech import speeches
from torpor.worker.wake.read import open_transcript

MIB = 1024 * 1024
REAL = Path("/tmp/shared/data/conversations.jsonl")
TURN = [HumanMessage("what is up?"), AIMessage("", tool_calls=[{"name": "sky", "args": {"ID": 1}, "id": "c"}])]

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, in the order of their sessions."""
    table = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table()
    assert table.schema.names == [*SCHEMA.names, "day"]
    found: list[dict[str, Any]] = table.to_pylist()
    assert all(f"{row['time']:%Y-%m-%d}" == str(row["day"]) for row in found)
    return sorted(found, key=lambda row: (row["session"], row["sequence"], row["part"]))


def check(found: list[dict[str, Any]], services: Services, session_ids: list[str]) -> None:
    """Compare rows with what show prints of the sessions."""
    for session_id in session_ids:
        own = [row for row in found if row["session"] == session_id]
        with open_transcript(services, session_id) as transcript:
            elements = list(transcript.elements)
            assert {row["owner"] for row in own} == {transcript.owner}
        shown = list(speeches(elements, []))
        assert [row["text"] for row in own] == [each.text for each in shown]
        assert [[f"{call['name']}({call['arguments']})" for call in row["tool_calls"]] for row in own] == [
            each.calls for each in shown
        ]
        whole = [row for row in own if row["part"] == 0]
        assert [row["sequence"] for row in whole] == list(range(len(elements)))
        if whole[0]["kind"] == "chat":
            assert [row["raw"] or row["message"].encode() for row in whole] == elements
            assert len(whole) == len(own)
    assert len({row["session"] for row in found}) == len(session_ids)


def put_to_sleep_and_awake(client: redis.Redis, services: Services) -> list[str]:
    """Three sessions: asleep since last month, awake, and both."""
    for session_id in ("asleep", "both", "awake"):
        MemorystoreChatMessageHistory(client, session_id, owner="ann").add_messages(TURN)
    for session_id in ("asleep", "both"):
        age(client, session_id, timedelta(days=40))
        archive_session(services, session_id)
    MemorystoreChatMessageHistory(client, "both", owner="ann").add_messages(TURN)
    return ["asleep", "awake", "both"]


def test_every_odd_message_has_its_row(client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path) -> None:
    stored = fill(client, services)
    done = torpor("export", "--all", "--parquet", str(tmp_path / "tables"))
    assert done.code == 0, done
    found = rows(tmp_path / "tables")
    check(found, services, list(stored))
    assert f"exported: {len(stored):,} sessions, {len(found):,} rows" in done.out
    thread = [
        (row["sequence"], row["part"], row["kind"], row["role"], row["text"])
        for row in found
        if row["session"] == "thread"
    ]
    assert thread == [
        (0, 0, "thread", "checkpoint", ""),
        (0, 1, "thread", "human", "Where is my order?"),
        (1, 0, "thread", "writes", ""),
        (2, 0, "thread", "checkpoint", ""),
        (2, 1, "thread", "ai", "It arrives on Friday."),
    ]
    assert json.loads(next(row["message"] for row in found if row["role"] == "writes"))["channels"] == ["messages"]


def test_an_odd_id_of_a_call_does_not_stop_the_others(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    ids: dict[Any, str | None] = {None: None, 7: "7", "\ud83d": "\\ud83d", "": ""}
    items = [{"type": "function_call", "call_id": each, "name": "sky", "arguments": "{}"} for each in ids]
    services.sessions.append("items/ü\n", [json.dumps(item).encode() for item in items])
    call = {"name": "sky", "args": {}, "id": "\ud83d", "type": "tool_call"}
    message = {"type": "ai", "data": {"content": "", "tool_calls": [call]}}
    services.sessions.append("messages", [json.dumps(message).encode()])
    done = torpor("export", "--all", "--parquet", str(tmp_path / "tables"))
    assert done.code == 0, done
    found = rows(tmp_path / "tables")
    check(found, services, ["items/ü\n", "messages"])
    assert [row["tool_calls"][0]["id"] for row in found] == [*ids.values(), "\\ud83d"]


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the conversations are not here")
def test_real_conversations_have_all_their_calls_of_tools(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_WAITING_BYTES", 100_000)  # many row groups
    conversations = [json.loads(line) for line in REAL.read_text().splitlines()][:200]
    calls = sum(len(each.get("tool_calls") or []) for one in conversations for each in one["messages"])
    for number, one in enumerate(conversations):
        said = messages_from_dict([{"type": each["type"], "data": each} for each in one["messages"]])
        MemorystoreChatMessageHistory(client, one["session_id"], owner="ann").add_messages(said)
        if number % 2:
            age(client, one["session_id"], timedelta(days=number % 50))
            archive_session(services, one["session_id"])
    assert torpor("export", "--all", "--parquet", str(tmp_path / "tables")).code == 0
    found = rows(tmp_path / "tables")
    check(found, services, [one["session_id"] for one in conversations])
    assert sum(len(row["tool_calls"]) for row in found) == calls > 500
    assert len({row["day"] for row in found}) > 20


def test_rows_stand_in_the_folder_of_their_day_for_their_owner_alone(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    session_ids = put_to_sleep_and_awake(client, services)
    target = tmp_path / "tables"
    before = os.umask(0)
    try:
        assert torpor("export", "--all", "--parquet", str(target)).code == 0
    finally:
        os.umask(before)
    found = rows(target)
    check(found, services, session_ids)
    days: dict[str, list[datetime]] = {}
    for row in found:
        days.setdefault(row["session"], []).append(row["time"].date())
    assert days["asleep"][0] == days["both"][0] == days["both"][1] < days["both"][2] == days["awake"][0]
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*.parquet")} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [target, *target.glob("day=*")]} == {0o700}
    assert all(pyarrow.parquet.read_schema(path).equals(SCHEMA) for path in target.rglob("*.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_more_days_than_open_files_make_further_files(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_ids = put_to_sleep_and_awake(client, services)
    monkeypatch.setattr(parquet, "_OPEN_FILES", 1)
    monkeypatch.setattr(parquet, "_WAITING_BYTES", 0)
    assert torpor("export", "--all", "--parquet", str(tmp_path / "tables")).code == 0
    check(rows(tmp_path / "tables"), services, session_ids)
    assert len(list((tmp_path / "tables").rglob("part-1.parquet"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [1, 400], ids=["many short messages", "fewer long ones"])
def test_a_large_session_is_written_in_bounded_memory(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: int
) -> None:
    monkeypatch.chdir(tmp_path)
    services.sessions.append("tiny", [b'{"type":"human","data":{"content":"hello"}}'])
    turn = [b'{"type":"human","data":{"content":"%b"}}' % (b"several words " * words)] * 1_000
    turns = 50 if words == 1 else 15
    for _ in range(turns):
        services.sessions.append("hostile", turn)
    done = measured(services, "export", "SESSION", "--parquet", "SESSION")
    assert done.result == 0, done
    written = pyarrow.dataset.dataset(tmp_path / "hostile", format="parquet", partitioning="hive")
    assert written.count_rows() == turns * 1_000
    assert done.added < 96 * MIB, done.added


def test_named_sessions_alone_are_exported(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    put_to_sleep_and_awake(client, services)
    (tmp_path / "tables").mkdir()
    assert torpor("export", "both", "asleep", "--parquet", str(tmp_path / "tables")).code == 0
    check(rows(tmp_path / "tables"), services, ["asleep", "both"])


def test_what_can_not_be_read_is_named_and_the_others_are_exported(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path, scratch: Path
) -> None:
    session_ids = put_to_sleep_and_awake(client, services)
    [segment] = (scratch / "archive").glob("v1/*/asleep/*/*.jsonl.gz")
    segment.chmod(0o600)
    segment.write_bytes(segment.read_bytes()[:-4])
    target = tmp_path / "tables"
    done = torpor("export", "--all", "--parquet", str(target))
    assert (done.code, "not exported: asleep: " in done.err) == (1, True), done
    assert str(target) in done.said
    check(rows(target), services, session_ids[1:])
    assert torpor("export", "asleep", "awake", "--parquet", str(tmp_path / "other")).code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_what_is_there_already_is_left_alone(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    put_to_sleep_and_awake(client, services)
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").write_text("mine")
    for target in (there, there / "file"):
        assert is_refused(torpor("export", "--all", "--parquet", str(target)), "is there already")
    assert is_refused(torpor("export", "--all", "--parquet", str(tmp_path / "no" / "folder")), "can't be written")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "file"]


@pytest.mark.parametrize("others", [["--output", "x"], ["--to-memorystore"], ["--ttl", "5"]])
def test_only_one_place_may_be_named(services: Services, torpor: Torpor, tmp_path: Path, others: list[str]) -> None:
    assert torpor("export", "--all", "--parquet", str(tmp_path / "tables"), *others).code == 2
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(
    services: Services, torpor: Torpor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torpor.worker.transfer.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert is_refused(torpor("export", "--all", "--parquet", str(tmp_path / "tables")), "torpor[parquet]")


def test_a_bucket_gets_the_same_files_and_at_the_end_the_sign_that_they_are_complete(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path, bucket: str
) -> None:
    session_ids = put_to_sleep_and_awake(client, services)
    target = f"gs://{bucket}/tables"
    assert torpor("export", "--all", "--parquet", target).code == 0
    store = open_archive(target)
    listed = list(store.list(""))
    assert "_SUCCESS" in listed[0].name
    for stored in listed[1:]:
        path = tmp_path / stored.name
        path.parent.mkdir(exist_ok=True)
        with store.open(stored) as body:
            path.write_bytes(body.read())
    check(rows(tmp_path), services, session_ids)
    assert is_refused(torpor("export", "--all", "--parquet", target), "has objects already")
    assert is_refused(torpor("export", "--all", "--parquet", "gs://"), "gs://bucket/prefix")


def test_a_failed_upload_leaves_nothing_in_the_bucket(
    client: redis.Redis, services: Services, torpor: Torpor, bucket: str, proxy: StorageProxy
) -> None:
    put_to_sleep_and_awake(client, services)
    target = f"gs://{bucket}/tables"
    proxy.fail(answered(403), "upload", after=2)  # the third one is of the sign
    done = torpor("export", "--all", "--parquet", target)
    assert done.code == 2, done
    assert proxy.kinds().count("upload") == 3
    assert proxy.kinds().count("delete") == 2
    assert list(open_archive(target).list("")) == []
