"""A session, workers that die at it, and a replica that takes over without its last writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.keyspace import raw
from torpor import MemorystoreChatMessageHistory
from torpor.history.keys import ShardKeys
from torpor.history.protocol import (
    Lease,
    SessionInfo,
)
from torpor.worker import failpoints
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

S = "s"
CLAIMS = count()


class Killed(BaseException):
    """Ends the process here: no error handler catches it."""


def die(*_: object) -> None:
    raise Killed


@contextmanager
def at(failpoint: Failpoint, act: Callable[[], object] = die, times: int = 1) -> Iterator[None]:
    """Call `act` when the failpoint is reached for the time `times`; fails if it is not reached so often."""
    reached: list[Failpoint] = []

    def action(point: Failpoint) -> None:
        if point is failpoint:
            reached.append(point)
            if len(reached) == times:
                act()

    failpoints.arm(action)
    try:
        yield
    finally:
        failpoints.arm()
    assert len(reached) >= times


@contextmanager
def killed_at(failpoint: Failpoint, times: int = 1) -> Iterator[None]:
    with at(failpoint, times=times), pytest.raises(Killed):
        yield


def chat(client: redis.Redis, session_id: str = S, **options: Any) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, **options)


def say(client: redis.Redis, *texts: str, **options: Any) -> None:
    """Write one turn."""
    chat(client, **options).add_messages([HumanMessage(text) for text in texts])


def said(client: redis.Redis) -> list[Any]:
    return [message.content for message in chat(client).messages]


def texts(elements: Sequence[bytes]) -> list[str]:
    """The texts of stored messages."""
    return [json.loads(element)["data"]["content"] for element in elements]


def described(services: Services) -> SessionInfo:
    info = services.sessions.info(S)
    assert info
    return info


def keys(services: Services) -> ShardKeys:
    return services.sessions.deployment.keyspace.of(S.encode())


def sleep(services: Services) -> None:
    assert archive_session(services, S).outcome is Outcome.ARCHIVED


def drain_due(services: Services) -> dict[Outcome, int]:
    return dict(drain(services, list(services.sessions.due_counts())))


def end_lease(client: redis.Redis, services: Services) -> None:
    """Let a worker's lease on the session end."""
    raw(client, "ZADD", keys(services).due, "XX", 1, S)


def object_names(archive: ArchiveStore) -> list[str]:
    return [stored.name for stored in archive.list("v1/")]


# Redis rewound


def claimed_by_another_worker(services: Services) -> None:
    # Different from each other and from a drain's 30 seconds, so that no two claims have the same token.
    lease = services.sessions.claim_one(S, timedelta(seconds=60 + next(CLAIMS)))
    assert isinstance(lease, Lease)
    assert services.sessions.begin_attempts([lease]) != [None]
