"""Purges by a real Celery worker and beat: ordered by tasks, and continued by the sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from support.compose import deployment_of, image
from support.servers import RedisServer
from support.waiting import scaled, wait_until
from torpor.history.protocol import ClaimOutcome, Expiry, InvalidArgument
from torpor.worker import failpoints
from torpor.worker.archive.contents import look
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, receipts
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import carry_out
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.errors import PurgeNotFound
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

pytestmark = pytest.mark.slow

A, B = b'{"a":1}', b'{"b":2}'


@pytest.fixture
def deployment(client: redis.Redis, redis_server: RedisServer, archive_url: str) -> Services:
    return deployment_of(redis_server, archive_url, lease_seconds=2)


@pytest.fixture
def app(deployment: Services) -> Iterator[Celery]:
    with make_app(lambda: deployment.settings, set_as_current=False) as made:
        yield made


class Killed(BaseException):
    """Ends the process here."""


def say(services: Services, session_id: str, *elements: bytes, owner: str = "ann") -> None:
    services.sessions.append(session_id, list(elements), expiry=Expiry(idle=timedelta(hours=1)), owner=owner)


def sleep(services: Services, session_id: str, *elements: bytes, owner: str = "ann") -> None:
    say(services, session_id, *elements, owner=owner)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def ask(app: Celery, name: str, *arguments: object, **keywords: object) -> tuple[str, dict[str, Any]]:
    """Send a task and wait for its result; its id comes first."""
    sent = app.send_task(name, arguments, keywords)
    result: dict[str, Any] = sent.get(timeout=scaled(60))
    return str(sent.id), result


def is_complete(services: Services, purge_id: str) -> Callable[[], bool]:
    return lambda: receipts.standing(services, purge_id).state is PurgeState.COMPLETE


def test_a_purge_that_is_sent_as_a_task_tells_what_became_of_it(
    deployment: Services, app: Celery, tmp_path: Path
) -> None:
    sleep(deployment, "s", A, B)
    for number in range(3):
        (sleep if number else say)(deployment, f"anns {number}", A)
    sleep(deployment, "bobs", A, owner="bob")
    with image("worker", deployment, tmp_path):
        task_id, done = ask(app, "torpor.purge_session", "s", requested_by="dpo", reason="request 17")
        assert (done["purge"], done["state"], done["error"]) == (task_id, "complete", None)
        assert done["found"] == {"sessions": 1, "messages": 2, "objects": 1, "bytes": done["found"]["bytes"]}
        receipt = receipts.standing(deployment, task_id).receipt
        assert receipt
        assert (receipt.requested_by, receipt.reason, receipt.target.fields()) == (
            "dpo",
            "request 17",
            {"session": "s"},
        )
        assert receipt.fields()["found"] == receipt.fields()["removed"] == done["found"]

        for name, arguments in (("session", ["s"]), ("owner", ["An"]), ("idle", [1])):
            given = {"owner": "An"} if name == "idle" else {}
            again_id, again = ask(app, f"torpor.purge_{name}", *arguments, requested_by="dpo", **given)
            assert (again["purge"], again["state"], again["found"]["sessions"]) == (again_id, "unknown", 0)
            assert "nothing" in again["error"]
            with pytest.raises(PurgeNotFound):
                receipts.standing(deployment, again_id)
            again_id, again = ask(app, f"torpor.purge_{name}", *arguments, record_nothing_found=True, **given)
            assert (again["purge"], again["state"], again["found"]["sessions"]) == (again_id, "complete", 0)

        owners_id, owners = ask(app, "torpor.purge_owner", "ann", requested_by="dpo", scope="archive")
        assert (owners["purge"], owners["state"], owners["found"]["sessions"]) == (owners_id, "complete", 2)
        _, owners = ask(app, "torpor.purge_owner", "ann", "dpo", "request 18")
        assert (owners["state"], owners["found"]["sessions"]) == ("complete", 1)

        _, idle = ask(app, "torpor.purge_idle", 3600, owner="bob")
        assert (idle["state"], idle["found"]["sessions"]) == ("complete", 0)
        wait_until(lambda: ask(app, "torpor.purge_idle", 1, owner="bob")[1]["found"]["sessions"] == 1)

        say(deployment, "held", A)
        deployment.sessions.hold("held", "case 12")
        held_id, held = ask(app, "torpor.purge_session", "held")
        assert held["state"] == "blocked"
        kept = receipts.standing(deployment, held_id).receipt
        assert kept
        assert kept.kept.named[0].why == "legal hold: case 12"

        say(deployment, "t", A)
        once = [app.send_task("torpor.purge_session", ["t"], task_id="once").get(timeout=scaled(60)) for _ in range(2)]
        assert (once[0]["state"], once[0]) == ("complete", once[1])  # as where a task is delivered twice
        assert [*receipts.finished(deployment)].count("once") == 1

        for name, arguments, keywords in (
            ("torpor.purge_session", ["s"], {"scope": "moon"}),
            ("torpor.purge_session", [""], {}),
            ("torpor.purge_idle", [0], {}),
        ):
            with pytest.raises(InvalidArgument):
                app.send_task(name, arguments, keywords).get(timeout=scaled(60))
    for session_id in ("s", "anns 0", "anns 1", "anns 2", "bobs"):
        assert not look(deployment.archive, session_id), session_id
        assert deployment.sessions.messages(session_id, touch=False) == []
    assert list(orders.open_orders(deployment)) == []


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize("begun", [False, True])
def test_an_order_whose_requester_has_crashed_is_carried_out_by_the_sweep(
    deployment: Services, tmp_path: Path, *, begun: bool
) -> None:
    for number in range(4):
        (sleep if number % 2 else say)(deployment, f"s{number}", A)
    order = orders.place(deployment, Order.of(owner="ann", requested_by="dpo"))

    def die(at: Failpoint) -> None:
        if at is Failpoint.PURGE_ERASED:
            raise Killed

    if begun:
        failpoints.arm(die)
        try:
            with pytest.raises(Killed):
                carry_out(deployment, order.id)
        finally:
            failpoints.arm()
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        wait_until(is_complete(deployment, order.id), 60, "the purge is complete")
    receipt = receipts.standing(deployment, order.id).receipt
    assert receipt
    assert (receipt.removed.sessions, receipt.removed.messages, receipt.requested_by) == (4, 4, "dpo")
    assert list(orders.open_orders(deployment)) == []


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_purge_of_what_a_dead_worker_has_leased_becomes_complete_by_itself(
    deployment: Services, app: Celery, tmp_path: Path
) -> None:
    say(deployment, "s", A, B)
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        ask(app, "torpor.purge_session", "any")  # the worker is there
        assert not isinstance(deployment.sessions.claim_one("s", timedelta(seconds=4)), ClaimOutcome)
        purge_id, begun = ask(app, "torpor.purge_session", "s")
        assert (begun["state"], begun["found"]["messages"]) == ("running", 2)
        assert deployment.sessions.messages("s", touch=False) == []
        wait_until(is_complete(deployment, purge_id), 60, "the purge is complete")
    receipt = receipts.standing(deployment, purge_id).receipt
    assert receipt
    assert receipt.removed.sessions == 1
    waited = receipt.finished_at - receipt.requested_at
    assert waited > timedelta(seconds=1)
