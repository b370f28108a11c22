"""A file with a line that is larger than any session: an import holds no more than it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from support.keyspace import raw
from support.peak import measured
from support.sessions import with_settings
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ImportFailed
from torpor.worker.transfer.json_lines import read_conversations

MIB = 1024 * 1024
TINY = json.dumps({"session_id": "tiny", "messages": [{"type": "human", "content": "hello"}]}) + "\n"


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_line_without_an_end_is_named_and_not_read_and_nothing_is_imported(
    client: redis.Redis, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_text(TINY)
    with Path("hostile").open("w") as file:
        file.write(TINY.replace("tiny", "before"))
        file.write('{"session_id":"hostile","messages":[{"type":"human","content":"')
        file.writelines("x" * MIB for _ in range(100))
    done = measured(with_settings(services, max_message_bytes=MIB), "import", "SESSION")
    assert done.result == 2
    assert "hostile, line 2: it has more than 16,777,216 bytes" in done.said
    assert done.added <= 16 * MIB, done.added
    assert [key for key in raw(client, "KEYS", "*:m:*") if b"tiny" not in key] == []


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_line_may_have_exactly_the_longest_size(tmp_path: Path, more: int) -> None:
    path, limit = tmp_path / "file.jsonl", 128 * 1024
    head, tail = '{"session_id":"s","messages":[{"type":"human","content":"', '"}]}\n'
    path.write_text(head + "x" * (16 * limit + more - len(head) - len(tail)) + tail + TINY)
    read = read_conversations(path, max_message_bytes=limit)
    if more > 0:
        with pytest.raises(ImportFailed, match="line 1: it has more than 2,097,152 bytes"):
            list(read)
    else:
        assert [each.session_id for each in read] == ["s", "tiny"]
