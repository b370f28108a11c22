"""LangGraph's own conformance suite for checkpointers, on savers with each kind of client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import redis
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

from support.servers import RedisServer
from torpor import MemorystoreSaver
from torpor.worker.deployment.services import Services
from torpor.worker.wake.session_archive import SessionArchive

# How many tests the suite has for each capability: a suite that tests less must not pass for one that passes.
TESTS = {"put": 17, "put_writes": 10, "get_tuple": 10, "list": 16, "delete_thread": 5, "copy_thread": 8, "prune": 8}


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


def passed_by(maker: Any) -> dict[str, int]:
    """How many tests of each capability a saver passes; fails if one of them fails."""
    made = checkpointer_test("torpor", skip_capabilities={"delete_for_runs"})(maker)
    report = asyncio.run(validate(made))
    failures = [failure for result in report.results.values() for failure in result.failures]
    assert not failures
    return {name: result.tests_passed for name, result in report.results.items() if result.detected}


def test_a_saver_with_an_asyncio_client_conforms(redis_server: RedisServer, services: Services) -> None:
    archive = SessionArchive(services.archive.url)

    async def maker() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        async with redis_server.asyncio_client() as client:
            yield MemorystoreSaver(client, archive=archive)

    assert passed_by(maker) == TESTS


def test_a_saver_with_a_blocking_client_conforms(client: redis.Redis, services: Services) -> None:
    archive = SessionArchive(services.archive.url)

    async def maker() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        yield MemorystoreSaver(client, archive=archive)

    assert passed_by(maker) == TESTS
