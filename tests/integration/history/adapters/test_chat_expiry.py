"""The expiry of a chat history: idle timeout, maximum age, retention, and policies over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
import redis.asyncio

from support.histories import TURN, described, history
from support.keyspace import dump, raw
from support.servers import RedisServer
from support.waiting import wait_until
from support.watched_clients import WatchedRedis
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    Expiry,
    InvalidArgument,
    InvalidExpiry,
    OwnerMismatch,
    Policies,
    SessionNotFound,
    SessionStore,
    Status,
)

# Expiry


def test_info_describes_a_session(client: redis.Redis) -> None:
    chat = history(client, ttl=3600, max_age=7200, owner="ann")
    chat.add_messages(TURN)
    info = described(chat)
    assert (info.session_id, info.status, info.message_count) == ("s", Status.LIVE, 4)
    assert (info.idle_timeout, info.max_age) == (timedelta(hours=1), timedelta(hours=2))
    assert (info.owner, info.attempts, info.error, info.floor, info.restored_count) == ("ann", 0, None, None, 0)
    assert info.due_at == info.last_active + timedelta(hours=1)
    assert info.created <= info.last_written == info.last_active
    seconds, micros = raw(client, "TIME")
    assert abs(info.created.timestamp() - int(seconds) - int(micros) / 1e6) < 60


def test_a_session_without_expiry_of_its_own_has_the_default_of_24_hours(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    info = described(chat)
    assert (info.idle_timeout, info.max_age) == (timedelta(hours=24), None)
    assert (info.expiry.idle, info.expiry.max_age) == (None, None)
    assert info.due_at == info.last_active + timedelta(hours=24)


def test_live_data_carries_no_redis_ttl(client: redis.Redis) -> None:
    history(client, ttl=1, max_age=1, owner="ann").add_messages(TURN)
    keys = raw(client, "KEYS", "*")
    assert len(keys) == 6
    assert {raw(client, "PTTL", key) for key in keys} == {-1}


def test_a_session_is_due_at_its_maximum_age_however_active_it_is(client: redis.Redis) -> None:
    chat = history(client, ttl=3600, max_age=60)
    for _ in range(3):
        chat.add_messages(TURN)
    info = described(chat)
    assert info.due_at == info.created + timedelta(seconds=60)


def test_ttl_and_max_age_only_fill_in_what_a_session_has_not_got(client: redis.Redis) -> None:
    history(client).add_messages(TURN)
    history(client, ttl=60).add_messages(TURN)
    history(client, max_age=600).add_messages(TURN)
    late = history(client, ttl=90, max_age=900)
    late.add_messages(TURN)
    info = described(late)
    assert (info.expiry.idle, info.expiry.max_age) == (timedelta(seconds=60), timedelta(seconds=600))
    assert info.due_at == info.last_active + timedelta(seconds=60)


def test_another_owner_is_refused_and_writes_nothing(client: redis.Redis) -> None:
    history(client, owner="ann").add_messages(TURN)
    before = dump(client)
    with pytest.raises(OwnerMismatch, match="'bob'"):
        history(client, owner="bob", ttl=60).add_messages(TURN)
    assert dump(client) == before


def test_set_expiry_changes_what_is_given_and_moves_the_due_moment(client: redis.Redis) -> None:
    chat = history(client, ttl=60, max_age=600)
    chat.add_messages(TURN)
    chat.set_expiry(ttl=90)
    info = described(chat)
    assert (info.idle_timeout, info.max_age) == (timedelta(seconds=90), timedelta(seconds=600))
    assert info.due_at == info.last_active + timedelta(seconds=90)
    chat.set_expiry(max_age=30)
    info = described(chat)
    assert (info.idle_timeout, info.due_at) == (timedelta(seconds=90), info.created + timedelta(seconds=30))
    chat.set_expiry(ttl=None, max_age=None)
    info = described(chat)
    assert (info.idle_timeout, info.max_age) == (timedelta(hours=24), None)
    assert info.due_at == info.last_active + timedelta(hours=24)


def test_set_expiry_needs_something_to_set_and_a_session_to_set_it_on(client: redis.Redis) -> None:
    chat = history(client)
    with pytest.raises(SessionNotFound, match="restore it first"):
        chat.set_expiry(ttl=60)
    chat.add_messages(TURN)
    before = dump(client)
    with pytest.raises(InvalidArgument, match="ttl, max_age or archive_retention"):
        chat.set_expiry()
    for wrong in (0, -1, 1.5, True, "60"):
        with pytest.raises(InvalidExpiry):
            chat.set_expiry(ttl=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidExpiry):
            chat.set_expiry(max_age=wrong)  # type: ignore[arg-type]
    assert dump(client) == before


def test_a_retention_in_the_archive_is_filled_in_changed_and_kept_over_a_clear(client: redis.Redis) -> None:
    history(client).add_messages(TURN)
    assert described(history(client)).expiry.retention is None
    history(client, archive_retention=600).add_messages(TURN)
    chat = history(client, archive_retention=900)
    chat.add_messages(TURN)
    info = described(chat)
    assert info.expiry == Expiry(retention=timedelta(seconds=600))
    assert info.due_at == info.last_active + timedelta(hours=24)
    chat.set_expiry(archive_retention=60)
    chat.clear()
    chat.add_messages(TURN)
    assert described(chat).expiry == Expiry(retention=timedelta(seconds=60))
    chat.set_expiry(ttl=90)
    assert described(chat).expiry == Expiry(timedelta(seconds=90), None, timedelta(seconds=60))
    chat.set_expiry(archive_retention=None)
    assert described(chat).expiry == Expiry(timedelta(seconds=90))


def record(client: redis.Redis, *rules: dict[str, Any]) -> None:
    """Have the deployment's rules recorded, as a worker does when it starts."""
    policies = Policies.parse(json.dumps(rules).encode())
    SessionStore(client).configure(idle=timedelta(hours=24), max_age=None, policies=policies)


def test_policies_bound_what_an_application_asks_for(client: redis.Redis, redis_server: RedisServer) -> None:
    record(
        client,
        {"owner_prefix": "guest-", "idle_timeout_seconds": 300, "idle_timeout_max_seconds": 900},
        {"session_prefix": "", "idle_timeout_min_seconds": 60, "max_age_max_seconds": 7200},
    )
    with redis_server.client() as application:
        of_guest = history(application, "a", ttl=3600, max_age=3600, owner="guest-1")
        without = history(application, "b", owner="guest-2")
        of_ann = history(application, "c", ttl=1, owner="ann")
        for chat in (of_guest, without, of_ann):
            chat.add_messages(TURN)
        info = described(of_guest)
        assert (info.idle_timeout, info.max_age) == (timedelta(seconds=900), timedelta(seconds=3600))
        assert info.due_at == info.last_active + timedelta(seconds=900)
        assert described(without).expiry == Expiry(timedelta(seconds=300))
        assert described(of_ann).expiry == Expiry(timedelta(seconds=60), timedelta(hours=2))


def test_set_expiry_stays_within_the_policies_for_the_sessions_own_owner(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    rule = {"owner": "ann", "idle_timeout_seconds": 300, "idle_timeout_max_seconds": 900, "max_age_max_seconds": 7200}
    record(client, rule)
    with redis_server.client() as application:
        history(application, owner="ann").add_messages(TURN)
        chat = history(application, owner="ann")
        chat.set_expiry(ttl=3600)
        assert described(chat).expiry == Expiry(timedelta(seconds=900), timedelta(hours=2))
        chat.set_expiry(ttl=60, max_age=60)
        assert described(chat).expiry == Expiry(timedelta(seconds=60), timedelta(seconds=60))
        chat.set_expiry(ttl=None, max_age=None)
        assert described(chat).expiry == Expiry(timedelta(seconds=300), timedelta(hours=2))
        with pytest.raises(SessionNotFound):
            history(application, "none").set_expiry(ttl=60)


@pytest.mark.parametrize(("rule", "commands"), [({"session_prefix": ""}, 1), ({"owner": "ann"}, 2)])
def test_set_expiry_asks_for_the_owner_only_where_a_rule_depends_on_one(
    client: redis.Redis, watched: WatchedRedis, rule: dict[str, str], commands: int
) -> None:
    record(client, {**rule, "idle_timeout_max_seconds": 900})
    chat = history(watched, ttl=60)
    chat.add_messages(TURN)
    watched.commands.clear()
    chat.set_expiry(ttl=90)
    assert watched.commands == ["EVALSHA"] * commands


def test_new_policies_count_for_what_begins_after_them(client: redis.Redis, redis_server: RedisServer) -> None:
    history(client, "old", ttl=3600).add_messages(TURN)
    record(client, {"session_prefix": "", "idle_timeout_max_seconds": 60})
    with redis_server.client() as restarted:
        for session_id in ("old", "new"):
            history(restarted, session_id, ttl=3600).add_messages(TURN)
        assert described(history(client, "old")).idle_timeout == timedelta(hours=1)
        assert described(history(client, "new")).idle_timeout == timedelta(seconds=60)
        history(restarted, "old").set_expiry(ttl=7200)
        assert described(history(client, "old")).idle_timeout == timedelta(seconds=60)


def test_a_closed_session_is_due_at_once_and_keeps_its_messages(client: redis.Redis) -> None:
    chat = history(client)
    assert not chat.close()
    chat.add_messages(TURN)
    assert chat.close()
    info = described(chat)
    assert info.status is Status.DUE
    assert info.message_count == 4


@pytest.mark.parametrize(
    "use",
    [lambda chat: chat.messages, lambda chat: chat.add_messages(TURN)],
    ids=["reading", "writing"],
)
def test_using_a_closed_session_brings_it_back_to_life(
    client: redis.Redis, use: Callable[[MemorystoreChatMessageHistory], object]
) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    chat.close()
    use(chat)
    info = described(chat)
    assert info.status is Status.LIVE
    assert info.due_at == info.last_active + timedelta(hours=24)


def test_describing_a_closed_session_leaves_it_due(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    chat.close()
    before = dump(client)
    assert described(chat).status is Status.DUE
    assert dump(client) == before


def test_reading_moves_last_active_and_leaves_last_written(client: redis.Redis) -> None:
    chat = history(client)
    chat.add_messages(TURN)
    written = described(chat).last_written
    wait_until(lambda: chat.messages and described(chat).last_active > written)
    first = described(chat).last_active
    wait_until(lambda: chat.messages and described(chat).last_active > first)
    assert described(chat).last_written == written
    chat.add_messages(TURN)
    assert described(chat).last_written == described(chat).last_active > written
