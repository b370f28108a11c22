"""Quarantine: the sessions that could not be archived, and how they are taken out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import nsmallest

from torpor.history.protocol import SessionInfo, TorporError
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services


def found(services: Services, unreadable: Callable[[str, TorporError], None]) -> Iterator[SessionInfo]:
    """Describe the sessions in quarantine; calls `unreadable` for each one whose metadata can't be read."""
    return _described(services, services.sessions.sessions(quarantined=True), unreadable)


def page(
    services: Services, most: int, after: str, unreadable: Callable[[str, TorporError], None]
) -> tuple[list[SessionInfo], str | None]:
    """The first sessions in quarantine by id that come `after` one, and the last id of the page if there are more.

    Reads the ids of all, and keeps those of a page.
    """
    quarantined = services.sessions.sessions(quarantined=True)
    ids = nsmallest(most + 1, (each for each in quarantined if each > after))
    shown = ids[:most]
    return list(_described(services, iter(shown), unreadable)), shown[-1] if ids[most:] else None


def everything(services: Services) -> list[str]:
    """The ids of all sessions in quarantine."""
    return list(services.sessions.sessions(quarantined=True))


def _described(
    services: Services, session_ids: Iterator[str], unreadable: Callable[[str, TorporError], None]
) -> Iterator[SessionInfo]:
    for session_id, info in catalog.described(services, session_ids):
        if isinstance(info, TorporError):
            unreadable(session_id, info)
        elif info:
            yield info
