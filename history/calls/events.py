"""What has happened to sessions."""

from __future__ import annotations

from collections.abc import Mapping

from history.calls.call import Call
from history.keys import events_key
from history.scripts import script


def tell(namespace: str, event: Mapping[str, str], *, keep: int) -> Call[str]:
    """Add an event to the deployment's stream, of which about the last `keep` stay; the result is its id."""
    fields = [part.encode(errors="replace") for field in event.items() for part in field]
    return Call(script("tell"), [events_key(namespace)], [keep, *fields], lambda reply: str(reply.decode()))
