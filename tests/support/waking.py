"""Sleeping sessions, and the values that tests compare when the sessions wake up."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from support.identity import bind
from support.observed import ObservedArchive, Points
from support.servers import RedisServer
from torpor.history.adapters.messages import encode_message
from torpor.history.protocol import SessionInfo, SessionStore, run_sync
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.session_archive import SessionArchive

SLEPT: list[BaseMessage] = [HumanMessage("one"), AIMessage("two"), HumanMessage("three"), AIMessage("four")]
LATE: list[BaseMessage] = [HumanMessage("five")]


def written(messages: list[BaseMessage]) -> list[bytes]:
    return list(map(encode_message, messages))


def services_of(server: RedisServer, sessions: SessionStore, url: str) -> Services:
    settings = Settings(**server.settings, archive_url=url, lease_seconds=30)
    services = Services(settings, sessions, open_archive(url))
    bind(services)
    return services


def watched(services: Services, points: Points) -> SessionArchive:
    archive = SessionArchive(services.archive.url)
    run_sync(archive._compare(services.sessions.operations))  # once for a process, and so not in each test
    archive._store = ObservedArchive(archive._store, points)
    return archive


def fall_asleep(services: Services, messages: list[BaseMessage] = SLEPT, **options: Any) -> None:
    services.sessions.append("s", written(messages), owner="ann", **options)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def described(services: Services) -> SessionInfo:
    found = services.sessions.info("s")
    assert found is not None
    return found


def restored(services: Services) -> int:
    """How many sessions were restored since the deployment began."""
    return sum(shard.restored for shard in services.sessions.overview())


def events(services: Services) -> list[dict[str, Any]]:
    return [event for _, event in services.sessions.last_events(100) if event["kind"] == "session.restored"]
