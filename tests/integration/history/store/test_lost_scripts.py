"""Scripts that the server has lost are sent again."""

from __future__ import annotations

import redis

from support.stored_sessions import ALL, MINUTE, A, B, C, fill, make_due
from torpor.history.protocol import (
    SessionInfo,
    SessionStore,
)

# Scripts that the server has lost


def test_a_lost_script_is_sent_again(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    client.script_flush()
    assert store.append("s", [C]) == 3
    client.script_flush()
    assert store.messages("s") == [A, B, C]


def test_lost_scripts_are_sent_again_in_a_pipeline_too(sessions: SessionStore, client: redis.Redis) -> None:
    fill(sessions, "a", "b", "c")
    sessions.close("a")
    client.script_flush()
    assert list(sessions.due_counts().values()) == [1]
    client.script_flush()
    infos = sessions.infos(["a", "nobody", "c"])
    assert [isinstance(info, SessionInfo) and info.session_id for info in infos] == ["a", False, "c"]


def test_claiming_through_lost_scripts_leases_once(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "a", "b")
    make_due(client, a=1, b=2)
    client.script_flush()
    assert [lease.session_id for lease in store.claim(ALL, 10, MINUTE)] == ["a", "b"]
    assert store.claim(ALL, 10, MINUTE) == []
