"""Give back: copies a session to another library."""

from __future__ import annotations

from datetime import timedelta

from torpor.worker.deployment.services import Services
from torpor.worker.wake.read import read_transcript


def give_back(services: Services, session_id: str, ttl: timedelta | None = None) -> int:
    """Copy a session to the key that langchain-google-memorystore-redis reads; returns how many messages it has.

    Finish adoptions first. Raises SessionExists if the key is in use, MessageCorrupt, and the errors of
    `read_transcript`.
    """
    messages = read_transcript(services, session_id)
    services.sessions.give_back(session_id, messages, ttl=ttl)
    return len(messages)
