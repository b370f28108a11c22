"""Redis at its memory limit: archiving makes room again."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from support.faulty_redis import SHARDS, Chat, services_at, transcript
from support.keyspace import raw
from support.servers import start_redis
from support.waiting import wait_until
from torpor.history.protocol import (
    RedisMemoryFull,
)
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

pytestmark = pytest.mark.single_node(reason="these are the faults of one node")


# Redis at its memory limit


def test_at_the_memory_limit_archiving_makes_room_again(tmp_path: Path, scratch: Path) -> None:
    server = start_redis(tmp_path, "--maxmemory-policy", "noeviction")
    try:
        services = services_at(server.url, scratch / "archive", batch=50)
        chats = [Chat(services, f"chat {number}") for number in range(60)]
        large = [b'{"content":"%b"}' % os.urandom(32_768).hex().encode()]  # compressed, half of it
        for chat in chats:
            chat.say(3)
            services.sessions.append(chat.session_id, large)
            chat.acknowledged += large
            services.sessions.close(chat.session_id)
        client = services.sessions.client
        used = client.info("memory")["used_memory"]
        raw(client, "CONFIG", "SET", "maxmemory", used - 100_000)
        refused = Chat(services, "refused")
        with pytest.raises(RedisMemoryFull):
            refused.say()
        totals: Counter[Outcome] = Counter()
        while services.sessions.due_counts():
            totals += drain(services, SHARDS)
        assert totals[Outcome.ARCHIVED] == len(chats)
        assert client.info("memory")["used_memory"] < used - 1_000_000
        refused.say()
        refused.check()
        for chat in chats[:5]:
            chat.check()
        for chat in chats:
            assert transcript(services, chat.session_id) == chat.acknowledged
    finally:
        server.stop()


def test_at_the_memory_limit_a_store_that_was_down_and_a_poisoned_session_keep_nobody_in_redis(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_redis(tmp_path, "--maxmemory-policy", "noeviction")
    try:
        services = services_at(server.url, scratch / "archive", batch=8, max_attempts=2, retry_delay_seconds=0.2)
        chats = [Chat(services, f"chat {number}") for number in range(20)]
        for chat in chats:
            chat.say(2)
            services.sessions.close(chat.session_id)
        client = services.sessions.client
        poisoned = services.sessions.deployment.keyspace.of(b"chat 0").metadata(b"chat 0")
        raw(client, "HSET", poisoned, "base", "nonsense")
        raw(client, "CONFIG", "SET", "maxmemory", "1")
        with monkeypatch.context() as patch:

            def down(*_: object, **__: object) -> None:
                raise ArchiveUnavailable("the archive is down")

            patch.setattr(services.archive, "put", down)
            for _ in range(10):
                assert drain(services, SHARDS)[Outcome.ARCHIVED] == 0
        infos = [services.sessions.info(chat.session_id) for chat in chats[1:]]
        assert all(info and info.attempts == 0 for info in infos)

        def asleep() -> bool:
            drain(services, SHARDS)
            return list(services.sessions.sessions()) == []

        wait_until(asleep, what="all sleep but the poisoned one")
        assert list(services.sessions.sessions(quarantined=True)) == ["chat 0"]
        raw(client, "CONFIG", "SET", "maxmemory", "0")
        raw(client, "HDEL", poisoned, "base")
        assert services.sessions.requeue("chat 0")
        for chat in chats:
            chat.check()
    finally:
        server.stop()
