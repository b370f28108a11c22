"""Backups and copies of a Redis, copies of an archive, and the time that passes for its fence."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta

import redis

from support.keyspace import raw
from support.objects import content, put
from torpor.worker.archive import ownership
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment import fence
from torpor.worker.deployment.services import Services

_CONFIG = b"torpor:config"


@dataclass(frozen=True)
class Backup:
    """Every key of a Redis: its serialized value and how long it lives on (ms), 0 for ever."""

    keys: dict[bytes, tuple[bytes, int]]

    @classmethod
    def of(cls, client: redis.Redis) -> Backup:
        keys = raw(client, "KEYS", "*")
        return cls({key: (raw(client, "DUMP", key), max(0, raw(client, "PTTL", key))) for key in keys})

    def restore(self, client: redis.Redis) -> None:
        """Replace all that a Redis has, as Memorystore's import does."""
        client.flushall()
        for key, (value, lives_ms) in self.keys.items():
            raw(client, "RESTORE", key, lives_ms, value)


def let_a_minute_pass(client: redis.Redis) -> None:
    """Make each token of the fence a minute older, as Redis has noted it."""
    noted = raw(client, "HGET", _CONFIG, "fence") or b""
    aged = re.sub(rb"(\d+):", lambda since: b"%d:" % (int(since[1]) - 60_000), noted)
    if aged:
        raw(client, "HSET", _CONFIG, "fence", aged)


def move_fence(services: Services, times: int = 1) -> None:
    """Move the fence as the sweeps of so many minutes do."""
    for _ in range(times):
        let_a_minute_pass(services.sessions.client)
        assert fence.move(services.sessions, services.archive)


def token_of(services: Services) -> str | None:
    """The archive's token."""
    found = ownership.read(services.archive).fence
    return found.token if found else None


def tokens_of(services: Services) -> list[str]:
    """The tokens of Redis, newest last."""
    return [each.token for each in services.sessions.identity().fence]


def let_minutes_pass_in_the_archive(services: Services, minutes: int) -> None:
    """Make the last move of the archive's fence so much older, without a change of its token."""
    there = ownership.read(services.archive)
    assert there.fence
    assert there.fence.moved_at
    moved_at = there.fence.moved_at - timedelta(minutes=minutes)
    assert ownership.move_fence(services.archive, there, there.fence.token, moved_at)


def copied_archive(services: Services, *, keep_holds: bool = True) -> Services:
    """The services with a copy of the archive; `gcloud storage cp` and its kind keep no temporary holds."""
    copy = open_archive(f"{services.archive.url}-copy")
    for stored in services.archive.list(""):
        held = stored.held and keep_holds
        put(copy, stored.name, content(services.archive, stored), dict(stored.metadata), stored.custom_time, held=held)
    return replace(services, archive=copy, settings=services.settings.model_copy(update={"archive_url": copy.url}))
