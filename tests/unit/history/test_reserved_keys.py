"""Which keys a session is never given back to, and never adopted from."""

from __future__ import annotations

import pytest

from torpor.history.errors import InvalidArgument
from torpor.history.formats.reserved import check_return_key
from torpor.history.ids import DEFAULT_NAMESPACE
from torpor.history.keys import Keyspace, config_key, events_key, purge_lock_key

SHARD = Keyspace(DEFAULT_NAMESPACE, 256).shard(7)
OTHERS = Keyspace("another.one", 16).shard(3)
TORPORS = [
    *(SHARD.due, SHARD.quarantine, SHARD.tally, SHARD.elected, SHARD.holds, SHARD.adoptions),
    *(SHARD.messages(b"s"), SHARD.metadata(b"s"), SHARD.recent_requests(b"s"), SHARD.owner(b"o")),
    *(SHARD.staging(b"s", b"1"), OTHERS.messages(b"s"), OTHERS.staging(b"s", b"1")),
    *(config_key("torpor"), events_key("torpor"), purge_lock_key("torpor", "1")),
    *(b"torpor:adopting:{s}:s", b"another:returning:{s}:1:s", b"torpor:", b"torpor:anything", b"{torpor:anything"),
    *(b"torpor:celery:torpor", b"torpor:celery:torpor\x06\x163", b"torpor:celery:_kombu.binding.torpor"),
]
CELERYS = [
    *(b"celery", b"celery\x06\x169", b"_kombu.binding.celery", b"_kombu.binding_deadlines", b"unacked"),
    *(b"unacked_index", b"unacked_mutex", b"celery-task-meta-1", b"celery-taskset-meta-1", b"chord-unlock-1"),
    *(b"celeryev", b"celeryev.1", b"0-1.reply.celery.pidbox", b"worker@host.celery.pidbox"),
    *(b"torpor-events", b"torpor-events\x06\x163", b"torpor", b"torpor\x06\x160"),
]
FREE = [
    b"s",
    b"returned:celery",
    b"celery-fan",
    b"celeryevents",
    b"torporific",
    b"user:torpor:1",
    b"{torporific:x}:m:s",
]
QUEUES = ("torpor", "torpor-events")


@pytest.mark.parametrize("key", TORPORS, ids=repr)
def test_a_key_of_torpor_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidArgument, match="belongs to a deployment of Torpor: give another --prefix"):
        check_return_key("torpor", key, QUEUES)


@pytest.mark.parametrize("key", CELERYS, ids=repr)
def test_a_key_of_celery_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidArgument, match="belongs to Celery: give another --prefix"):
        check_return_key("torpor", key, QUEUES)


@pytest.mark.parametrize("key", FREE, ids=repr)
def test_any_other_key_is_free(key: bytes) -> None:
    assert check_return_key("torpor", key, QUEUES) == key
