"""Each call that Torpor sends again after a lost reply has the same effect when it is sent twice."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from support.foreign import LAYOUTS
from support.keyspace import raw
from support.session_states import CHECKPOINTS
from support.stored_sessions import ALL, DAY, HOUR, MINUTE, A, B, C, claim_due, described, fill, snapshot_of
from torpor.history import calls
from torpor.history.adoption import Adoption
from torpor.history.calls import Call
from torpor.history.protocol import Expiry, Lease, PurgeTarget, RestoreTicket, SessionStore
from torpor.history.session import Origin, Page

MEMORYSTORE = LAYOUTS["memorystore"]
REQUEST = b"12345678"
Make = Callable[[SessionStore], Call[Any]]


def awake(store: SessionStore) -> None:
    fill(store, "s", messages=[A, B])


def leased(store: SessionStore) -> Lease:
    awake(store)
    return claim_due(store)


def restoring(store: SessionStore) -> RestoreTicket:
    ticket = store.run(calls.begin_restore(store.deployment, "s", MINUTE, alone=True, token=b"0a1b"))
    assert isinstance(ticket, RestoreTicket)
    return ticket


def adopting(store: SessionStore) -> Adoption:
    raw(store.client, "RPUSH", "s", A, B)
    begun = Adoption("s", MEMORYSTORE, "0a1b2c3d", "4e5f")
    found: Adoption = store.run(calls.begin_adoption(store.deployment, begun, owner=None, allow_reuse=False))
    return found


def _assign_owner(store: SessionStore) -> Call[Any]:
    return calls.assign_owner(store.deployment, "asleep", "ann", archived=True)


def _append(store: SessionStore) -> Call[Any]:
    return calls.append(store.deployment, "s", [A], request=REQUEST, owner="ann", expiry=Expiry(idle=HOUR))


def _clear(store: SessionStore) -> Call[Any]:
    awake(store)
    return calls.clear(store.deployment, "s", request=REQUEST)


def _pop(store: SessionStore) -> Call[Any]:
    store.clear("s")
    awake(store)
    return calls.pop(store.deployment, "s", Page(described(store).epoch, 0, 2, 1, [B]), request=REQUEST)


def _hold(store: SessionStore) -> Call[Any]:
    awake(store)
    return calls.hold(store.deployment, "s", "why")


def _note_owner_hold(store: SessionStore) -> Call[Any]:
    awake(store)
    return calls.note_owner_hold(store.deployment, "s")


def _note_hold_applied(store: SessionStore) -> Call[Any]:
    awake(store)
    store.hold("s", "why")
    lease = claim_due(store)
    return calls.note_hold_applied(store.deployment, lease, snapshot_of(store, lease))


def _update(store: SessionStore) -> Call[Any]:
    awake(store)
    return calls.update(store.deployment, "s", None, idle=DAY, max_age=None, retention=HOUR)


def _close(store: SessionStore) -> Call[Any]:
    awake(store)
    return calls.close(store.deployment, "s")


def _read(store: SessionStore) -> Call[Any]:
    awake(store)
    return calls.read(store.deployment, "s", 0, None, 1024, touch=True)


def a_thread(store: SessionStore) -> int:
    """A thread that is known to be complete, and its epoch."""
    store.clear("s")
    store.append("s", CHECKPOINTS)
    return described(store).epoch


def _write_record(store: SessionStore) -> Call[Any]:
    record = calls.NewRecord("", "d", CHECKPOINTS[0], f"{a_thread(store)}:0", interrupts=True)
    return calls.write_record(store.deployment, "s", record, request=REQUEST, interrupted_idle=HOUR)


def _read_checkpoint(store: SessionStore) -> Call[Any]:
    a_thread(store)
    return calls.read_checkpoint(store.deployment, "s", "", None, touch=True)


def _rewrite(store: SessionStore) -> Call[Any]:
    epoch = a_thread(store)
    return calls.rewrite(store.deployment, "s", CHECKPOINTS[:1], epoch=epoch, total=3, request=REQUEST)


def _purge(store: SessionStore) -> Call[Any]:
    awake(store)
    return calls.purge(store.deployment, PurgeTarget("s"), "p", tombstone=HOUR, idle=None)


def _snapshot(store: SessionStore) -> Call[Any]:
    return calls.snapshot(store.deployment, leased(store), 512)


def _renew(store: SessionStore) -> Call[Any]:
    return calls.renew(store.deployment, leased(store), MINUTE)


def _commit(store: SessionStore) -> Call[Any]:
    lease = leased(store)
    return calls.commit(store.deployment, lease, snapshot_of(store, lease))


def _release(store: SessionStore) -> Call[Any]:
    lease = leased(store)
    snapshot_of(store, lease)
    return calls.release(store.deployment, lease, HOUR, counted=False, error="why")


def _note_erased(store: SessionStore) -> Call[Any]:
    awake(store)
    floor = store.clear("s")
    return calls.note_erased(store.deployment, claim_due(store), floor)


def _begin_restore(store: SessionStore) -> Call[Any]:
    return calls.begin_restore(store.deployment, "s", MINUTE, alone=True, token=b"0a1b")


def _stage(store: SessionStore) -> Call[Any]:
    return calls.stage(store.deployment, restoring(store), 0, [A, B], MINUTE)


def _finish_restore(store: SessionStore) -> Call[Any]:
    ticket = restoring(store)
    store.run(calls.stage(store.deployment, ticket, 0, [A, B], MINUTE))
    store.append("s", [C])
    return calls.finish_restore(store.deployment, ticket, 2, Origin())


def _abandon(store: SessionStore) -> Call[Any]:
    return calls.abandon(store.deployment, restoring(store))


def _begin_adoption(store: SessionStore) -> Call[Any]:
    begun = Adoption("s", MEMORYSTORE, "0a1b2c3d", "4e5f", 2)
    return calls.begin_adoption(store.deployment, begun, owner=None, allow_reuse=False)


def _take_list(store: SessionStore) -> Call[Any]:
    raw(store.client, "RPUSH", "s", A, B)
    return calls.take_list("torpor", "s", MEMORYSTORE, "4e5f", 2)


def _delete_companion(store: SessionStore) -> Call[Any]:
    raw(store.client, "HSET", "agents:session:s", "session_id", "s")
    return calls.delete_companion(b"agents:session:s", "hash")


def _delete_taken(store: SessionStore) -> Call[Any]:
    store.run(_take_list(store))
    [mark] = raw(store.client, "LRANGE", "torpor:adopting:{s}:s", -1, -1)
    return calls.delete_taken("torpor", "s", MEMORYSTORE, mark.decode().partition(":")[0])


def _adopt(store: SessionStore) -> Call[Any]:
    begun = adopting(store)
    after = replace(begun, written=2)
    return calls.adopt(store.deployment, begun, after, [A, B], expiry=Expiry(), owner=None, allow_reuse=False)


def _end_adoption(store: SessionStore) -> Call[Any]:
    return calls.end_adoption(store.deployment, adopting(store))


def _stage_return(_: SessionStore) -> Call[Any]:
    return calls.stage_return("torpor", b"s", b"4e5f", [A, B], staged=0, lease=HOUR)


def _give_back(store: SessionStore) -> Call[Any]:
    store.run(_stage_return(store))
    return calls.give_back("torpor", b"s", b"4e5f", 2, HOUR)


def _hold_owner(store: SessionStore) -> Call[Any]:
    return calls.hold_owner(store.deployment, 0, "ann", "why")


def _note_owner_release(store: SessionStore) -> Call[Any]:
    return calls.note_owner_release(store.deployment, "ann", datetime.now(UTC))


def _identify(store: SessionStore) -> Call[Any]:
    return calls.identify("torpor", store.identity(), "0a1b", "file:///archive")


def _rejoin(store: SessionStore) -> Call[Any]:
    fill(store, "s")
    info = store.info("s")
    assert info
    return calls.rejoin(store.deployment, info, 1)


def _repack(store: SessionStore) -> Call[Any]:
    fill(store, "s")
    stored = raw(store.client, "LINDEX", "{torpor:0}:m:s", 0)
    return calls.repack(store.deployment, "s", [(0, stored, C)])


def _move_fence(store: SessionStore) -> Call[Any]:
    return calls.move_fence("torpor", store.identity().newest_token, "4e5f", keep=16)


def _note_epoch(store: SessionStore) -> Call[Any]:
    return calls.note_epoch(store.deployment, 0, 9)


def _note_kinds_counted(store: SessionStore) -> Call[Any]:
    return calls.note_kinds_counted(store.deployment)


def _configure(_: SessionStore) -> Call[Any]:
    return calls.configure(
        "torpor", 1, HOUR, DAY, retention=DAY, policies=None, require_owner=None, compression=None, record=True
    )


def _end_election(store: SessionStore) -> Call[Any]:
    fill(store, "s")
    store.close("s")
    store.run(calls.poll_shards(store.deployment, ALL, timedelta(seconds=5)))
    return calls.end_election(store.deployment, ALL)


# Operation -> what makes the call, in a state in which its first sending has an effect.
CHANGING: dict[str, Make] = {
    name.removeprefix("_"): make
    for name, make in list(globals().items())
    if name.startswith("_") and inspect.isfunction(make)
}
# These look, and change nothing but what the call before them has changed.
LOOKING = {"info", "due", "overview", "list_sessions", "nearest", "peek_list", "adoptions", "owned"}
LOOKING |= {"find_hold", "find_owner_hold", "find_release", "find_owner_release", "claimed", "archive_health"}
LOOKING |= {"find_documents", "peek_documents", "kinds"}
LOOKING |= {"figures", "waiting_since", "count_holds", "count_owned", "list_holds", "holds_of", "owner_holds_in"}
LOOKING |= {"measures", "samples"}
# These are not sent again: their second reply would be wrong, or their second effect another one.
ONCE = {"claim", "claim_one", "poll_shards", "add_events", "requeue", "release_hold", "reindex", "rebuild_metadata"}
ONCE |= {"rebase", "drop_live", "set_aside", "note_seen", "add_sample", "reserve", "set_kinds"}
# Needs a server with modules: test_langchain_redis.py.
ELSEWHERE = {"take_documents"}

# The second replies that differ, which the callers understand: the step has been done.
SECOND_REPLIES = {
    "commit": "gone",  # the session has left Redis
    "release": "False",  # the lease is over
    "note_erased": "other",
    "finish_restore": "superseded",  # a reader then sees that the session is complete
    "abandon": "False",
    "take_list": "False",  # the caller looks, and finds its own mark
    "delete_companion": "False",
    "delete_taken": "False",
    "end_adoption": "False",
    "adopt": "written=2",  # the adoption as it is by now: the caller goes on with it
    "end_election": "[False]",
    "write_record": "WrittenRecord(state='', position=None)",
    "rejoin": "changed",  # the caller compares again, and finds nothing to do
}


COMMANDS = {
    b"string": "GET",
    b"list": "LRANGE 0 -1",
    b"hash": "HGETALL",
    b"set": "SMEMBERS",
    b"zset": "ZRANGE 0 -1 WITHSCORES",
}


# Here only moments change.
UNCHANGED = {"close", "renew"}


def state(client: redis.Redis) -> dict[bytes, Any]:
    """All values, with moments of the last and the next days left out."""
    found: dict[bytes, Any] = {}
    for key in raw(client, "KEYS", "*"):
        command, *rest = COMMANDS[raw(client, "TYPE", key)].split()
        found[key] = re.sub(r"\d{13,16}(\.\d)?|\\x..", "…", repr(raw(client, command, key, *rest)))
    return found


def test_every_operation_is_in_one_of_the_groups_above() -> None:
    operations = {
        name
        for name, each in inspect.getmembers(calls, inspect.isfunction)
        if str(each.__annotations__.get("return")).startswith("Call[")
    }
    assert operations == CHANGING.keys() | LOOKING | ONCE | ELSEWHERE
    assert len(operations) == len(CHANGING) + len(LOOKING) + len(ONCE) + len(ELSEWHERE)


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_a_call_that_is_sent_twice_does_what_it_does_once(client: redis.Redis, store: SessionStore, name: str) -> None:
    call = CHANGING[name](store)
    assert call.repeatable
    before = state(client)
    first = outcome(store, call)
    after = state(client)
    assert name in UNCHANGED or after != before, "this state shows nothing"
    second = outcome(store, call)
    assert state(client) == after
    if name in SECOND_REPLIES:
        assert SECOND_REPLIES[name] in second
    else:
        assert second == first
    client.flushall()


def outcome(store: SessionStore, call: Call[Any]) -> str:
    """The reply, with moments left out."""
    return re.sub(r"\d{13,16}|datetime\.datetime\([^)]*\)", "…", repr(store.run(call)))
