"""Sessions and owners under a legal hold."""

from __future__ import annotations

from datetime import timedelta

from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    Expiry,
)
from torpor.worker.archive import names
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

A, B, C = b'{"a":1}', b'{"b":2}', b'{"c":3}'
SHARDS = list(range(4))


class Killed(BaseException):
    """Ends the process here."""


def chat(services: Services, session_id: str = "s", owner: str | None = "ann") -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(services.sessions.client, session_id, 3600, owner=owner, shards=4)


def say(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann") -> None:
    services.sessions.append(session_id, list(elements) or [A], expiry=Expiry(idle=timedelta(seconds=60)), owner=owner)


def sleep(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann") -> None:
    say(services, session_id, *elements, owner=owner)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def held(services: Services, session_id: str) -> list[bool]:
    """For each segment of a session, whether it is held."""
    return [segment.stored.held for segment in look(services.archive, session_id).segments]


def objects(services: Services, session_id: str) -> list[str]:
    """The names of a session's objects without floor markers."""
    prefix = names.session_prefix(session_id)
    return [each.name for each in services.archive.list(prefix, generations=True) if not each.name.endswith("/floor")]


def settle(services: Services) -> None:
    """Drain, as a worker does, until nothing is due."""
    wait_until(lambda: not drain(services, SHARDS))


def in_redis(services: Services) -> int:
    return sum(shard.live for shard in services.sessions.overview())
