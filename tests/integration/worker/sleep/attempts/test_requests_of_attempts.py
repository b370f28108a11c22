"""How many requests an attempt sends to a bucket: each costs money and time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from support.observed import watch
from support.storage_proxy import StorageProxy
from torpor.history.protocol import Expiry
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

MONTH = timedelta(days=30)


@pytest.fixture
def archive_url(bucket: str, proxy: StorageProxy) -> str:
    return f"gs://{bucket}/chats"


def say(services: Services, owner: str | None = "ann", retention: timedelta | None = None) -> None:
    services.sessions.append("s", [b'{"content":"hello"}'], owner=owner, expiry=Expiry(retention=retention))


def grown(services: Services, owner: str | None = "ann", retention: timedelta | None = None) -> None:
    """It was archived, and stayed in Redis because a message came meanwhile."""
    say(services, owner, retention)
    watched, points = watch(services)
    points.at("before commit batch", lambda: say(services, owner, retention))
    assert archive_session(watched, "s").outcome is Outcome.KEPT


def woken(services: Services) -> None:
    say(services)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    say(services)


def assigned(services: Services) -> None:
    grown(services, None)
    services.sessions.assign_owner("s", "ann")


PROLONGED = ["describe", "patch"]
CASES: dict[str, tuple[Callable[[Services], None], list[str]]] = {
    "first sleep": (say, ["list", "upload", "upload"]),
    "first sleep, no owner": (lambda services: say(services, None), ["upload"]),
    "woken and grown": (woken, ["upload", "upload", "list"]),
    "grown": (grown, ["list", "upload", "list"]),
    "grown, no owner": (lambda services: grown(services, None), ["upload", "list"]),
    "grown, with a retention": (
        lambda services: grown(services, retention=MONTH),
        ["list", "upload", "list", "list", *PROLONGED, *PROLONGED],
    ),
    "grown, and assigned an owner since": (assigned, ["list", "upload", "upload", "list"]),
}


@pytest.mark.parametrize("case", CASES)
def test_an_attempt_sends_no_more_requests_than_it_needs(services: Services, proxy: StorageProxy, case: str) -> None:
    begin, requests = CASES[case]
    begin(services)
    proxy.heal()
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert proxy.kinds() == requests
    newest = contents.look(services.archive, "s").segments[-1].stored
    assert newest.metadata.get("owner") == (None if "no owner" in case else "ann")
    assert bool(contents.owner_markers(services.archive, "ann", "s")) == ("no owner" not in case)
