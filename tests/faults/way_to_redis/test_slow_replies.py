"""A Redis that answers one worker's question late."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from support.faulty_redis import Chat
from support.redis_proxy import Proxy
from support.waiting import wait_until
from torpor.history.protocol import Lease
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.leases import LeaseKeeper

pytestmark = pytest.mark.single_node(reason="the proxy stands before one node")


class Gate:
    """Keeps the first renewal back until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, command: str) -> None:
        if command == "renew" and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(60)


def test_an_attempt_that_waits_for_a_slow_redis_keeps_nobody_else_from_renewing_or_committing(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chats = [Chat(direct, session_id) for session_id in ("waits", "goes on", "ends")]
    for chat in chats:
        chat.say(1)
    duration = timedelta(seconds=0.3)
    claimed = [through.sessions.claim_one(each, duration) for each in ("waits", "goes on", "ends")]
    leases = [lease for lease in claimed if isinstance(lease, Lease)]
    waits, goes_on, ends = leases
    keeper = LeaseKeeper(through.sessions, duration)
    keeper.keep(leases)
    proxy.hold = gate = Gate()
    owns: list[bool] = []
    asking = threading.Thread(target=lambda: owns.append(keeper.still_owns(waits)))
    asking.start()
    assert gate.reached.wait(30)
    with keeper:
        wait_until(lambda: proxy.commands.count("renew") >= 5, what="two renewals of the other two leases")
        assert not keeper.lost(goes_on)
        taken = keeper.take(ends)
        gate.opened.set()
        asking.join(30)
        newest = [keeper.take(each) for each in (waits, goes_on)]
    assert owns == [True]
    for lease, first in zip([*newest, taken], leases, strict=True):
        assert lease
        assert float(lease.token) > float(first.token)
        assert direct.sessions.release(lease, timedelta(), counted=False)
    for chat in chats:
        chat.check()
        chat.check_archived_once()
