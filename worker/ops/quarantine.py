"""Quarantine: the sessions that could not be archived, and how they are taken out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import nsmallest

from torpor.history.protocol import PermanentError, SessionInfo, TorporError
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


def requeue_all(
    services: Services, requeued: Callable[[str], None], unreadable: Callable[[str, TorporError], None]
) -> None:
    """Take all sessions out of quarantine; calls `requeued` for each.

    Calls `unreadable` for each one whose metadata another program's key has replaced, and goes on.
    """
    for session_id in everything(services):
        try:
            done = services.sessions.requeue(session_id)
        except PermanentError as error:
            unreadable(session_id, error)
        else:
            if done:  # else somebody else has taken it out of quarantine
                requeued(session_id)


def _described(
    services: Services, session_ids: Iterator[str], unreadable: Callable[[str, TorporError], None]
) -> Iterator[SessionInfo]:
    for session_id, info in catalog.described(services, session_ids):
        if isinstance(info, TorporError):
            unreadable(session_id, info)
        elif info:
            yield info
