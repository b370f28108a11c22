"""Sessions whose archives expire, and the moments at which they do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from torpor.history.protocol import ANY_OWNER, SessionInfo
from torpor.worker.archive import contents, names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

DAY = timedelta(days=1)
MONTH = timedelta(days=30)
MONTH_SECONDS = 30 * 86_400
MARKER_OUTLIVES = timedelta(days=2)


def say(services: Services, *numbers: int, session_id: str = "s", **options: Any) -> list[bytes]:
    said = [b'{"content":"message %d"}' % number for number in numbers]
    services.sessions.append(session_id, said, **{"owner": ANY_OWNER} | options)
    return said


def live(services: Services, session_id: str = "s") -> list[bytes]:
    return services.sessions.messages(session_id, touch=False)


def described(services: Services, session_id: str = "s") -> SessionInfo:
    info = services.sessions.info(session_id)
    assert info is not None
    return info


def fall_asleep(services: Services, session_id: str = "s") -> datetime:
    """Archive a session; returns when it was last active."""
    active = described(services, session_id).last_active
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return active


def segments(services: Services, session_id: str = "s") -> list[StoredObject]:
    return [segment.stored for segment in contents.look(services.archive, session_id).segments]


def ends(services: Services, session_id: str = "s") -> set[datetime | None]:
    return {stored.custom_time for stored in segments(services, session_id)}


def marker_ends(services: Services, owner: str = "ann", session_id: str = "s") -> list[datetime | None]:
    return [stored.custom_time for stored in services.archive.list(names.owner_markers(owner, session_id))]


def lapse(services: Services, by: timedelta = 60 * DAY) -> int:
    """Delete the objects that expire within the span `by`, as the store does; returns how many."""
    now = datetime.now(UTC) + by
    if services.archive.url.startswith("file:"):
        return services.archive.expire(now)
    gone = [
        each for each in services.archive.list("") if each.custom_time and each.custom_time <= now and not each.held
    ]
    return sum(map(services.archive.delete, gone))
