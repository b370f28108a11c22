"""The settings that a worker records in Redis for all clients."""

from __future__ import annotations

import pytest
import redis

from support.keyspace import dump, raw
from support.servers import RedisServer
from support.stored_sessions import DAY, HOUR, MINUTE, A, described
from torpor.history.protocol import (
    Expiry,
    Policies,
    PoliciesUnreadable,
    SessionStore,
    run_sync,
)

# The deployment


def test_default_expiry_is_recorded_for_all_clients(client: redis.Redis, redis_server: RedisServer) -> None:
    SessionStore(client).configure(idle=HOUR, max_age=DAY)
    with redis_server.client() as other:
        store = SessionStore(other)
        store.append("s", [A])
        info = described(store)
        assert (info.idle_timeout, info.max_age, info.expiry) == (HOUR, DAY, Expiry())
        assert info.due_at == info.last_active + HOUR
        store.append("own", [A], expiry=Expiry(idle=MINUTE))
        assert described(store, "own").idle_timeout == MINUTE
    with redis_server.client() as another:
        assert SessionStore(another).configure(idle=MINUTE, max_age=None).max_age is None
        assert SessionStore(another).deployment.idle == MINUTE


def test_policies_are_recorded_for_all_clients_and_replaced_as_a_whole(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    rules = Policies.parse(b'[{"owner": "ann", "idle_timeout_seconds": 60}]')
    assert SessionStore(client).configure(idle=HOUR, max_age=None, policies=rules).policies == rules
    with redis_server.client() as other:
        assert SessionStore(other).deployment.policies == rules
        before = dump(client)
        SessionStore(other).configure(idle=HOUR, max_age=None, policies=rules)
        assert dump(client) == before
    with redis_server.client() as another:
        assert SessionStore(another).configure(idle=HOUR, max_age=None).policies == Policies()
    assert raw(client, "HGET", "torpor:config", "policies") == b"[]"


def test_a_deployment_without_policies_has_none_recorded(client: redis.Redis) -> None:
    assert SessionStore(client).configure(idle=HOUR, max_age=None).policies == Policies()
    assert not raw(client, "HEXISTS", "torpor:config", "policies")


def test_policies_that_can_not_be_read_are_told_and_recorded_anew_by_a_worker(client: redis.Redis) -> None:
    SessionStore(client).configure(idle=HOUR, max_age=None)
    raw(client, "HSET", "torpor:config", "policies", '[{"planet": "mars"}]')
    with pytest.raises(PoliciesUnreadable, match="unknown: planet"):
        run_sync(SessionStore(client, namespace="torpor")._configured(record=False))
    assert SessionStore(client).configure(idle=HOUR, max_age=None).policies == Policies()
