"""torpor export and import: what leaves can come in again, and one bad session does not stop the others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.command import Torpor
from support.foreign import LAYOUTS
from support.keyspace import raw
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory, MemorystoreSession
from torpor.history.protocol import SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session

TURN = [HumanMessage("what is up?"), AIMessage("the sky")]
ODD = [b'{"type": "human",\n "data": {"content": "two lines"}}', b"\xff no message", b'{"raw":"AA=="}']

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def chat(client: redis.Redis, session_id: str) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id)


def damage(services: Services, session_id: str) -> None:
    """Put a session to sleep, and spoil its segment."""
    archive_session(services, session_id)
    folder = services.archive.url.removeprefix("file://")
    [segment] = [path for path in Path(folder).rglob("*.jsonl.gz") if f"/{session_id}/" in str(path)]
    segment.chmod(0o600)
    segment.write_bytes(segment.read_bytes()[:-4])


def test_every_kind_of_session_makes_the_round(
    client: redis.Redis, redis_server: RedisServer, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    items: list[Any] = [{"role": "user", "content": "hi"}, {"type": "reasoning", "id": "r", "summary": []}]

    async def in_agents(namespace: str) -> list[Any]:
        async with redis_server.asyncio_client() as connected:
            session = MemorystoreSession(connected, "agents", namespace=namespace)
            if namespace == "torpor":
                await session.add_items(items)
            return await session.get_items()

    asyncio.run(in_agents("torpor"))
    chat(client, "langchain").add_messages(TURN)
    chat(client, "empty").add_messages(TURN)
    chat(client, "empty").clear()
    services.sessions.append("odd", ODD)
    archive_session(services, "odd")
    file = tmp_path / "all.jsonl"
    assert torpor("export", "--all", "-o", str(file)).code == 0
    imported = torpor("import", str(file), "--json", NAMESPACE="elsewhere", ARCHIVE_URL=(tmp_path / "new").as_uri())
    assert imported.code == 0, imported
    assert imported.json == {"sessions": 4, "messages": 7, "skipped": 0, "unowned": 0, "purged": 0, "dry_run": False}
    there = SessionStore(client, namespace="elsewhere")
    assert there.messages("odd") == ODD
    assert there.messages("empty") == []
    assert there.info("empty")
    assert MemorystoreChatMessageHistory(client, "langchain", namespace="elsewhere").messages == TURN
    assert asyncio.run(in_agents("elsewhere")) == items
    assert torpor("archive", "empty", NAMESPACE="elsewhere", ARCHIVE_URL=(tmp_path / "new").as_uri()).code == 0
    again = torpor("export", "--all", NAMESPACE="elsewhere", ARCHIVE_URL=(tmp_path / "new").as_uri()).out
    assert set(again.splitlines()) == {line for line in file.read_text().splitlines() if '"empty"' not in line}


@pytest.mark.parametrize("options", [["--dry-run"], []], ids=["dry run", "run"])
def test_an_import_passes_over_a_purged_session_and_counts_it(
    client: redis.Redis, torpor: Torpor, tmp_path: Path, options: list[str]
) -> None:
    for session_id in ("a", "b", "c"):
        chat(client, session_id).add_messages(TURN)
    file = tmp_path / "in.jsonl"
    torpor("export", "--all", "-o", str(file))
    for session_id in ("a", "b"):
        assert torpor("purge", "--session", session_id, "--yes").code == 0
    file.write_text(file.read_text() + json.dumps({"session_id": "new", "messages": [{"type": "ai", "content": "x"}]}))
    found = torpor("import", str(file), "--json", *options)
    assert (found.code, found.json) == (
        0,
        {"sessions": 1, "messages": 1, "skipped": 1, "unowned": 0, "purged": 2, "dry_run": bool(options)},
    )
    assert "2 were purged" in torpor("import", str(file)).out
    for session_id in ("a", "b"):
        assert chat(client, session_id).messages == []


def test_one_unreadable_session_does_not_stop_an_export(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path
) -> None:
    for number in range(6):
        chat(client, f"s{number}").add_messages(TURN)
    damage(services, "s3")
    archive_session(services, "s4")
    raw(client, "SET", services.sessions.deployment.keyspace.of(b"s4").metadata(b"s4"), "no hash")
    file = tmp_path / "out.jsonl"
    for there in (False, True):
        if there:
            file.write_text("an older, complete export\n")
        result = torpor("export", "--all", "-o", str(file))
        assert (result.code, "2 sessions or shards could not be exported" in result.said) == (1, True), result
        assert "not exported: s3: " in result.err
        written = file.with_name("out.jsonl.incomplete") if there else file
        assert {json.loads(line)["session_id"] for line in written.read_text().splitlines()} == {"s0", "s1", "s2", "s5"}
        assert str(written) in result.said.replace(" ", "")
    assert file.read_text() == "an older, complete export\n"
    assert torpor("export", "--all").code == 1
    assert not list(tmp_path.glob(".*"))


def test_a_shard_that_can_not_be_read_does_not_stop_an_export(client: redis.Redis, torpor: Torpor) -> None:
    for number in range(4):
        chat(client, f"s{number}").add_messages(TURN)
    [due, *_] = raw(client, "KEYS", "*:due")
    client.delete(due)
    client.set(due, "no index")
    result = torpor("export", "--all")
    assert (result.code, len(result.out.splitlines())) == (1, 3)
    assert "not exported: shard " in result.err
    assert torpor("export", "--all", "--to-memorystore", "--prefix", "").code == 1
    assert sum(raw(client, "EXISTS", LAYOUTS["memorystore"].key(f"s{number}")) for number in range(4)) == 3


@pytest.mark.parametrize("arguments", [["s", "none"], ["s", "damaged"]])
def test_an_export_that_ends_in_an_error_leaves_the_file_as_it_was(
    client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path, arguments: list[str]
) -> None:
    chat(client, "s").add_messages(TURN)
    chat(client, "damaged").add_messages(TURN)
    damage(services, "damaged")
    file = tmp_path / "out.jsonl"
    file.write_text("an older, complete export\n")
    assert torpor("export", *arguments, "-o", str(file)).code in (1, 3)
    assert file.read_text() == "an older, complete export\n"
    assert list(tmp_path.glob("*out*")) == [file]


def test_a_file_keeps_its_mode_and_its_links_and_a_pipe_is_written_to(
    client: redis.Redis, torpor: Torpor, tmp_path: Path
) -> None:
    chat(client, "s").add_messages(TURN)
    file, link = tmp_path / "out.jsonl", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    assert torpor("export", "s", "-o", str(link)).code == 0
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert json.loads(file.read_text())["session_id"] == "s"
    assert torpor("export", "s", "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
