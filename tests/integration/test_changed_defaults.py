"""Which processes take in a changed default without a restart: docs/policies.md says so of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.compressing import compressed, set_to
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory, SessionArchive
from torpor.history.calls import configuration
from torpor.history.protocol import Compression
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.watch import Watch

pytestmark = pytest.mark.skipif(
    configuration.UNRECORDED is Compression.ZSTD, reason="with --compression no deployment does without"
)
TEXT = "the same words again and again, the same words again and again " * 4


@pytest.fixture
def client(client: redis.Redis) -> redis.Redis:
    """The client of a process that has read the defaults, before they change."""
    set_to(client, Compression.NONE)
    return client


@pytest.fixture
def other(client: redis.Redis, redis_server: RedisServer) -> Iterator[redis.Redis]:
    """The client of a worker that starts now, and records another default."""
    with redis_server.client() as started:
        yield started


def say(client: redis.Redis, session_id: str, **options: object) -> None:
    MemorystoreChatMessageHistory(client, session_id, **options).add_messages([HumanMessage(TEXT)])  # type: ignore[arg-type]


def test_a_worker_that_runs_takes_in_a_changed_default_at_its_next_look_at_redis(
    client: redis.Redis, other: redis.Redis, services: Services
) -> None:
    watch = Watch(services.sessions, services.archive)
    watch.look()
    set_to(other, Compression.ZSTD)
    before = services.sessions.deployment.compression
    watch.look()
    assert (before, services.sessions.deployment.compression) == (Compression.NONE, Compression.ZSTD)


def test_an_application_without_the_archive_takes_it_in_when_it_restarts(
    client: redis.Redis, other: redis.Redis
) -> None:
    say(client, "before")
    set_to(other, Compression.ZSTD)
    say(client, "before")
    say(client, "s")
    assert (compressed(client, "before"), compressed(client)) == ([False, False], [False])
    say(other, "s")
    assert compressed(client) == [False, True]


def test_an_application_with_the_archive_takes_it_in_when_it_asks_the_archive(
    client: redis.Redis, other: redis.Redis, services: Services
) -> None:
    archive = SessionArchive(services.archive.url)
    say(client, "s", archive=archive)
    set_to(other, Compression.ZSTD)
    say(client, "s", archive=archive)
    assert compressed(client) == [False, False]
    say(client, "t", archive=archive)  # a first write asks it whose the session is
    say(client, "s", archive=archive)
    assert (compressed(client, "t")[-1:], compressed(client)) == ([True], [False, False, True])
