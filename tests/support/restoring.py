"""Sleeping sessions, for tests that replace their segments."""

from __future__ import annotations

from typing import Any

import redis

from support.keyspace import lasting_keys, raw
from torpor.worker.archive import contents
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session


def elements(first: int, count: int) -> list[bytes]:
    return [b'{"content":"message %d"}' % number for number in range(first, first + count)]


def say(services: Services, first: int, count: int, session_id: str = "s", **options: Any) -> list[bytes]:
    said = elements(first, count)
    services.sessions.append(session_id, said, **options)
    return said


def live(services: Services, session_id: str = "s") -> list[bytes]:
    return services.sessions.messages(session_id, touch=False)


def asleep(services: Services, *turns: int, session_id: str = "s", **options: Any) -> list[bytes]:
    """A session in the archive alone, with one segment for each turn, each of another epoch."""
    said: list[bytes] = []
    for count in turns:
        said += say(services, len(said), count, session_id, **options)
        assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return said


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """All values in Redis, without the configuration, tallies and events."""
    readers: dict[bytes, tuple[str, list[bytes | int | str]]] = {
        b"list": ("LRANGE", [0, -1]),
        b"hash": ("HGETALL", []),
        b"zset": ("ZRANGE", [0, -1, "WITHSCORES"]),
        b"set": ("SMEMBERS", []),
    }
    found = {}
    for key in lasting_keys(client):
        if not key.endswith((b":t", b":config", b":events")):
            command, arguments = readers[raw(client, "TYPE", key)]
            found[key] = raw(client, command, key, *arguments)
    return found


def segments(services: Services, session_id: str = "s") -> list[StoredObject]:
    return [segment.stored for segment in contents.look(services.archive, session_id).segments]


# While it comes back


def written_and_read(services: Services, session_id: str) -> list[bytes]:
    services.sessions.messages(session_id)
    return say(services, 100, 2, session_id)


def archived_meanwhile(services: Services, session_id: str) -> list[bytes]:
    services.sessions.close(session_id)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return []


def written_and_archived(services: Services, session_id: str) -> list[bytes]:
    said = say(services, 100, 2, session_id)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return said


def restored_meanwhile(services: Services, session_id: str) -> list[bytes]:
    assert restore_session(services, session_id).outcome is RestoreOutcome.RESTORED
    return []


def restored_and_written(services: Services, session_id: str) -> list[bytes]:
    restored_meanwhile(services, session_id)
    return say(services, 100, 2, session_id)


def restored_and_archived(services: Services, session_id: str) -> list[bytes]:
    said = restored_and_written(services, session_id)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return said


EVENTS = [
    written_and_read,
    archived_meanwhile,
    written_and_archived,
    restored_meanwhile,
    restored_and_written,
    restored_and_archived,
]
