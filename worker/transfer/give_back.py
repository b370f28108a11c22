"""Give back: copies a session to another library."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from torpor.history.protocol import Layout, check_return_key
from torpor.worker.deployment.services import Services
from torpor.worker.wake.read import open_transcript


def check_keys(services: Services, session_ids: Iterable[str], prefix: str) -> None:
    """Raise InvalidArgument if a session would be given back to a key of this deployment, or of Celery."""
    for session_id in session_ids:
        check_return_key(services.settings.namespace, Layout(prefix).key(session_id), _queues(services))


def give_back(services: Services, session_id: str, prefix: str, ttl: timedelta | None = None) -> int:
    """Copy a session to where langchain-google-memorystore-redis reads it as `prefix` + id; returns how many messages.

    Finish adoptions first. Raises SessionExists if the key is in use, MessageCorrupt, and the errors of `check_keys`
    and `open_transcript`.
    """
    check_keys(services, [session_id], prefix)
    with open_transcript(services, session_id) as transcript:
        elements = transcript.elements
        services.sessions.give_back(session_id, elements, prefix=prefix, queues=_queues(services), ttl=ttl)
        return len(elements)


def _queues(services: Services) -> tuple[str, str]:
    """The queues that the settings name. Below the namespace they are reserved anyway, for those without a prefix."""
    return services.settings.namespace, services.settings.on_event_queue
