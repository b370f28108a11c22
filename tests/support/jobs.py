"""Jobs for tests: sessions of another library to adopt, in small batches, and what a job has left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.foreign import LAYOUTS, Foreign
from support.keyspace import raw
from torpor.worker import failpoints
from torpor.worker.archive import names
from torpor.worker.bulk import adopting
from torpor.worker.bulk.adopting import Arguments
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint
from torpor.worker.jobs import look
from torpor.worker.jobs.job import Job

TURN = [HumanMessage("what is up?"), AIMessage("the sky")]
BATCH = 4


class Killed(BaseException):
    """Ends the process here."""


@contextmanager
def dying(at: Failpoint, times: int = 1) -> Iterator[None]:
    """A process that is killed when it reaches a failpoint for the nth time."""
    left = times

    def die(reached: Failpoint) -> None:
        nonlocal left
        left -= reached is at
        if reached is at and left == 0:
            raise Killed

    failpoints.arm(die)
    with pytest.raises(Killed):
        yield
    failpoints.arm()


def theirs(client: redis.Redis, count: int, form: str = "memorystore") -> list[str]:
    """The ids of so many sessions of another library."""
    ids = [f"user-{number}" for number in range(count)]
    for session_id in ids:
        Foreign(client, LAYOUTS[form], session_id, ttl=600).add(*TURN)
    return ids


def order(services: Services, *, rate: float | None = None, **arguments: object) -> str:
    """Place the order of an adoption; returns its id."""
    given = Arguments.model_validate({"format": "memorystore", "match": "user-*"} | arguments)
    deployment = services.sessions.identity().deployment
    assert deployment
    return look.place(services, Job.of(adopting.NAME, given, deployment=deployment, rate=rate)).id


def objects(services: Services) -> list[str]:
    """The names of all objects of jobs."""
    return [stored.name for prefix in (names.JOBS.orders, names.JOBS.work) for stored in services.archive.list(prefix)]


def end_locks(client: redis.Redis) -> None:
    """Let the locks of dead processes end."""
    for key in raw(client, "KEYS", "torpor:job:*"):
        raw(client, "DEL", key)
