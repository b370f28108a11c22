"""Replies that are lost, cut or late, and a Redis that is gone for a while."""

from __future__ import annotations

import pytest
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.faulty_redis import SHARDS, Chat, clear
from support.observed import watch
from support.redis_proxy import Fault, Proxy, first
from support.sessions import purge_session, with_settings
from support.waiting import wait_until
from torpor.history.protocol import (
    RedisUnavailable,
    SessionStore,
    Status,
)
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import AttemptResult, Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.single_node(reason="these are the faults of one node")


# Single operations


def test_a_turn_whose_reply_was_lost_is_there_once_each_time_it_is_sent(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(2)
    _ = through.sessions.deployment
    for _ in range(3):
        left = [Fault.LOSE_REPLY, Fault.HALF_REPLY, Fault.CUT_BEFORE]
        proxy.plan = lambda _, left=left: left.pop() if left else None  # type: ignore[misc]
        chat.say(2, through)
        assert not left
    assert direct.sessions.messages("s") == chat.acknowledged
    assert proxy.commands.count("append") == 12


def test_a_renewal_whose_reply_was_lost_does_not_cost_the_lease(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    watched, points = watch(through, lease_seconds=0.6)
    points.at("before put segment", lambda: wait_until(lambda: points.log.count("after renew batch") >= 2))
    proxy.plan = first("renew", Fault.LOSE_REPLY)
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert proxy.commands.count("renew") >= 3
    chat.check()
    chat.check_archived_once()


def test_a_release_whose_reply_was_lost_leaves_the_session_to_the_next_worker(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    watched, points = watch(through)

    def fail() -> None:
        raise RedisUnavailable("no connection")

    points.at("before put segment", fail)
    proxy.plan = first("release", Fault.LOSE_REPLY)
    archive_session(watched, "s")
    assert proxy.commands.count("release") == 2
    info = direct.sessions.info("s")
    assert info
    assert (info.attempts, info.message_count) == (0, 9)
    chat.check()
    chat.check_archived_once()


def test_a_claim_whose_reply_was_lost_holds_the_session_for_one_lease(
    direct: Services, through: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    direct.sessions.close("s")
    short = with_settings(through, lease_seconds=0.2)
    proxy.plan = first("claim", Fault.LOSE_REPLY)
    totals = drain(short, [shard_of(direct, "s")])
    wait_until(lambda: totals or direct.sessions.due_counts())
    assert totals + drain(direct, SHARDS) == {Outcome.ARCHIVED: 1}
    chat.check()


def shard_of(services: Services, session_id: str) -> int:
    return services.sessions.deployment.keyspace.shard_of(session_id.encode())


def test_a_commit_whose_reply_was_lost_is_counted_once(direct: Services, through: Services, proxy: Proxy) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    proxy.plan = first("commit", Fault.LOSE_REPLY)
    assert archive_session(through, "s").outcome in (Outcome.ARCHIVED, Outcome.SUPERSEDED)
    assert proxy.commands.count("commit") == 2
    assert sum(shard.archived for shard in direct.sessions.overview()) == 1
    chat.check()
    chat.check_archived_once()


def test_a_reply_that_stops_in_the_middle_is_given_up_after_the_time_out_and_never_mixed_with_the_next(
    direct: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    client = redis.Redis.from_url(proxy.url, socket_timeout=0.1, retry=Retry(NoBackoff(), 2))
    store = SessionStore(client, shards=len(SHARDS))
    impatient = Services(direct.settings, store, direct.archive)
    proxy.plan = first("read", Fault.STALLED_REPLY)
    assert store.messages("s") == chat.acknowledged
    proxy.plan = first("append", Fault.STALLED_REPLY)
    chat.say(2, impatient)
    proxy.plan = first("snapshot", Fault.STALLED_REPLY)
    assert archive_session(impatient, "s").outcome is Outcome.ARCHIVED
    proxy.plan = first("finish_restore", Fault.STALLED_REPLY)
    restore_session(impatient, "s")
    assert store.messages("s") == chat.acknowledged
    chat.check()
    client.close()


def test_a_redis_that_refuses_connections_delays_the_work_and_loses_none(
    direct: Services, unretried: Services, proxy: Proxy
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    _ = unretried.sessions.deployment
    direct.sessions.close("s")
    proxy.refuse()
    for attempt in (
        lambda: chat.say(1, unretried),
        lambda: drain(unretried, SHARDS),
        lambda: archive_session(unretried, "s"),
        lambda: restore_session(unretried, "s"),
        lambda: purge_session(unretried, "s"),
        unretried.sessions.due_counts,
    ):
        with pytest.raises(RedisUnavailable):
            attempt()
    proxy.accept()
    assert drain(unretried, SHARDS) == {Outcome.ARCHIVED: 1}
    chat.check()


@pytest.mark.parametrize("point", ["before snapshot batch", "after read", "before put segment", "before commit batch"])
def test_a_redis_that_is_gone_for_a_while_in_the_middle_of_an_archive_loses_nothing(
    direct: Services, unretried: Services, proxy: Proxy, point: str
) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    watched, points = watch(unretried, lease_seconds=0.3)
    points.at(point, proxy.refuse)
    ended: list[AttemptResult] = []
    try:
        ended.append(archive_session(watched, "s"))
    except RedisUnavailable:
        assert point == "before snapshot batch"
    assert not points.pending
    assert [result.outcome for result in ended] in ([Outcome.POSTPONED], [])
    proxy.accept()
    wait_until(direct.sessions.due_counts, what="the lease ends")
    assert drain(direct, SHARDS) == {Outcome.ARCHIVED: 1}
    chat.check()
    chat.check_archived_once()


def test_looking_again_before_a_lease_of_before_the_clear_has_ended_never_leads_to_quarantine(direct: Services) -> None:
    chat = Chat(direct, "s")
    chat.say(9)
    direct.sessions.claim_one("s", with_settings(direct, lease_seconds=60).settings.lease)
    clear(direct, chat)
    for _ in range(direct.settings.max_attempts + 2):
        direct.sessions.close("s")
        drain(direct, SHARDS)
    info = direct.sessions.info("s")
    assert info
    assert (info.attempts, info.floor is not None, info.status is Status.QUARANTINED) == (0, True, False)
