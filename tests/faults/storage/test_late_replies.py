"""An upload is altered on its way, and then its reply is lost, or the deletion of what was stored comes late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from support.overtaken import WORDS, check_woken, say
from support.storage_proxy import Exchange, Gate, Reply, StorageProxy, altered
from support.waiting import wait_until
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import AttemptResult, Outcome


def another_owner(described: dict[str, Any]) -> None:
    described["metadata"]["owner"] = "bob"


@pytest.mark.parametrize("upload", [0, 1], ids=["marker", "segment"])
def test_an_altered_upload_whose_reply_was_lost_is_amended_at_once(
    services: Services, proxy: StorageProxy, upload: int
) -> None:
    def lost(exchange: Exchange) -> Reply:
        assert altered(another_owner)(exchange).status == 200
        return exchange.reset()

    say(services)
    proxy.fail(lost, "upload", after=upload, times=1)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    proxy.heal()
    check_woken(services, WORDS)


@pytest.mark.parametrize("delayed", [Gate.before, Gate.after], ids=["arrives late", "is answered late"])
@pytest.mark.parametrize("upload", [0, 1], ids=["marker", "segment"])
def test_a_late_deletion_of_an_altered_upload_deletes_nothing_that_another_attempt_relies_on(
    services: Services, proxy: StorageProxy, upload: int, delayed: Callable[[Gate, Exchange], Reply]
) -> None:
    say(services)
    gate = Gate()
    proxy.fail(altered(another_owner), "upload", after=upload, times=1)
    proxy.also_fail(lambda exchange: delayed(gate, exchange), "delete", times=1)
    first: list[AttemptResult] = []
    attempt = threading.Thread(target=lambda: first.append(archive_session(services, "s")))
    attempt.start()
    wait_until(gate.arrived.is_set, what="the first attempt discards what was stored")
    services.sessions.close("s")
    second = archive_session(services, "s")
    gate.open()
    attempt.join()
    assert second.outcome is Outcome.ARCHIVED
    assert [each.outcome for each in first] == [Outcome.SUPERSEDED]
    proxy.heal()
    check_woken(services, WORDS)
