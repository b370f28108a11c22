"""Sessions of several owners, asleep or awake, for a test to purge."""

from __future__ import annotations

from datetime import timedelta

from support.waiting import wait_until
from torpor.history.protocol import (
    Expiry,
)
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

A, B, C = b'{"a":"secret one"}', b'{"b":"secret two"}', b'{"c":"secret three"}'
SHARDS = list(range(4))


class Killed(BaseException):
    """Ends the process here."""


def say(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann", idle: int = 60) -> None:
    expiry = Expiry(idle=timedelta(seconds=idle))
    services.sessions.append(session_id, list(elements) or [A], expiry=expiry, owner=owner)


def sleep(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann") -> None:
    say(services, session_id, *elements, owner=owner)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def of_sessions(services: Services) -> list[str]:
    """The names of all objects, without the deployment's record, orders, receipts and the audit trail."""
    return [
        stored.name
        for stored in services.archive.list("v1/", generations=True)
        if not stored.name.startswith(
            (names.DEPLOYMENT, names.IDENTITIES, names.PURGES.orders, names.PURGES.work, names.AUDIT)
        )
    ]


def markers(services: Services, session_id: str) -> list[str]:
    return [name for name in of_sessions(services) if name.startswith(names.session_prefix(session_id))]


def end_tombstones(services: Services) -> None:
    """Do the work of the sweep after the time of the tombstones."""
    wait_until(lambda: not set(drain(services, SHARDS)) & {Outcome.ERASING, Outcome.ERASED} and not live(services))


def live(services: Services) -> int:
    return sum(shard.live + shard.tombstones for shard in services.sessions.overview())


def epoch_of(services: Services, session_id: str) -> int:
    info = services.sessions.info(session_id)
    assert info
    return info.epoch
