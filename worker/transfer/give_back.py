"""Give back: copies a session to another library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

from torpor.history.protocol import RETURN_PREFIX, InvalidArgument, Layout, check_return_key
from torpor.worker.deployment.services import Services
from torpor.worker.wake.read import open_transcript


def returned(layout: Layout, prefix: str | None) -> Layout:
    """The layout in which sessions go back: below the prefix, or the format's own, or one that no other program has.

    Raises InvalidArgument for a format whose sessions are only adopted.
    """
    if not layout.gives:
        raise InvalidArgument(f"sessions of {layout.elements} are only adopted: give another format")
    return replace(layout, prefix=layout.prefix or RETURN_PREFIX if prefix is None else prefix)


def check_keys(services: Services, session_ids: Iterable[str], layout: Layout) -> None:
    """Raise InvalidArgument if a session would be given back to a key of this deployment, or of Celery."""
    for session_id in session_ids:
        check_return_key(services.settings.namespace, layout.key(session_id), _queues(services))


def give_back(
    services: Services,
    session_id: str,
    layout: Layout,
    ttl: timedelta | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> int:
    """Copy a session to where another library reads it in this layout; returns how many messages.

    Before that, `warn` gets the names of the fields that the layout leaves out. Finish adoptions first. Raises
    SessionExists if the key is in use, MessageCorrupt, and the errors of `check_keys` and `open_transcript`.
    """
    check_keys(services, [session_id], layout)
    with open_transcript(services, session_id) as transcript:
        elements = transcript.elements
        _name_unsaid(session_id, elements, layout, warn)
        services.sessions.give_back(session_id, elements, layout=layout, queues=_queues(services), ttl=ttl)
        return len(elements)


def _name_unsaid(session_id: str, elements: Iterable[bytes], layout: Layout, warn: Callable[[str], None]) -> None:
    counts = Counter(field for element in elements for field in layout.unsaid(element))
    if counts:
        named = ", ".join(f"{field} of {count:,}" for field, count in sorted(counts.items()))
        warn(f"session {session_id!r}: the other library has no place for {named} messages")


def _queues(services: Services) -> tuple[str, str]:
    """The queues that the settings name. Below the namespace they are reserved anyway, for those without a prefix."""
    return services.settings.namespace, services.settings.on_event_queue
