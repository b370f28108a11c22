"""An upload whose connection broke, and that arrives after its session was cleared."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.keyspace import raw
from support.objects import object_names
from support.overtaken import say
from support.storage_proxy import Exchange, Reply, StorageProxy, answered
from torpor.history.fields import STORED
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import erase
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome


class Late:
    """Breaks the connection of an upload, and has it arrive later."""

    def __init__(self) -> None:
        self.uploads: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> Reply:
        self.uploads.append(exchange)
        return exchange.reset()

    def arrive(self) -> list[int]:
        """The answers of Cloud Storage."""
        return [each.forward().status for each in self.uploads]


def left(services: Services) -> list[str]:
    """All objects but the identity and the floor marker."""
    kept = (names.IDENTITIES, names.DEPLOYMENT)
    return [each for each in object_names(services.archive) if not each.startswith(kept) and "/floor" not in each]


@pytest.mark.parametrize("upload", [0, 1], ids=["marker", "segment"])
def test_an_upload_that_was_tried_again_finds_its_name_taken_until_it_can_not_arrive_any_more(
    services: Services, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch, upload: int
) -> None:
    late = Late()
    say(services)
    proxy.fail(late, "upload", after=upload, times=1)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    services.sessions.clear("s")
    assert archive_session(services, "s").outcome is Outcome.ERASING
    assert late.arrive() == [412]
    monkeypatch.setattr(erase, "_LATEST", timedelta())
    pass_recheck(services)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert left(services) == []


@pytest.mark.parametrize("upload", [0, 1], ids=["marker", "segment"])
def test_what_arrives_of_a_failed_attempt_before_its_lease_would_have_ended_is_erased(
    services: Services, proxy: StorageProxy, upload: int
) -> None:
    late = Late()
    say(services)
    proxy.fail(late, "upload", after=upload, times=1)
    proxy.also_fail(answered(403), "upload", after=upload)
    assert archive_session(services, "s").outcome is Outcome.POSTPONED
    proxy.heal()
    services.sessions.clear("s")
    assert archive_session(services, "s").outcome is Outcome.ERASING
    assert late.arrive() == [200]
    assert left(services)
    pass_recheck(services)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert left(services) == []


def test_a_clear_of_a_session_whose_uploads_were_answered_is_erased_at_once(services: Services) -> None:
    say(services)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    services.sessions.clear("s")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert left(services) == []


def pass_recheck(services: Services) -> None:
    """Let the moment of the next look at the archive come."""
    session, keyspace = b"s", services.sessions.deployment.keyspace
    metadata = keyspace.shard(keyspace.shard_of(session)).metadata(session)
    assert raw(services.sessions.client, "HGET", metadata, STORED["recheck_at"])
    raw(services.sessions.client, "HSET", metadata, STORED["recheck_at"], 1)
