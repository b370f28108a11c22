"""A session's transcript, as commands print it, all at once."""

from __future__ import annotations

from torpor.worker.deployment.services import Services
from torpor.worker.wake.read import open_transcript


def read_transcript(services: Services, session_id: str) -> list[bytes]:
    """The messages of `open_transcript`, of a session that is known to be small."""
    with open_transcript(services, session_id) as transcript:
        return list(transcript.elements)
