"""A session whose worker dies in the middle of an attempt, and how it must wake up after the next one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from torpor.history.protocol import Expiry
from torpor.worker import failpoints
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

WORDS = [b'{"content":"message %d"}' % number for number in range(3)]
EXPIRY = Expiry(idle=timedelta(hours=1), max_age=timedelta(days=30), retention=timedelta(days=365))
OTHER = Expiry(idle=timedelta(hours=2), max_age=timedelta(days=60), retention=timedelta(days=730))


class Killed(BaseException):
    """Ends the process here."""


def say(services: Services, *words: bytes, owner: str | None = "ann") -> None:
    services.sessions.append("s", list(words) or WORDS, expiry=EXPIRY, owner=owner)


def dies(services: Services, at: Failpoint = Failpoint.ARCHIVE_SENT) -> None:
    """An attempt whose worker dies, and the end of its lease."""

    def die(reached: Failpoint) -> None:
        if reached is at:
            raise Killed

    failpoints.arm(die)
    with pytest.raises(Killed):
        archive_session(services, "s")
    failpoints.arm()
    services.sessions.close("s")


def check_woken(services: Services, words: list[bytes], expiry: Expiry = EXPIRY, owner: str | None = "ann") -> None:
    """The session sleeps, and wakes up with all messages, its newest expiry and its owner, who is known to have it."""
    assert services.sessions.info("s") is None
    assert (owner is None) or list(catalog.owned(services, owner)) == ["s"]
    restore_session(services, "s")
    info = services.sessions.info("s")
    assert info is not None
    assert services.sessions.messages("s", touch=False) == words
    assert (info.expiry, info.owner) == (expiry, owner)
