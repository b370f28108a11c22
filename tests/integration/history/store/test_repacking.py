"""Messages in Redis get another stored form, and nothing else of a session changes, whatever happens meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dictionary.samples import Samples
from support.compressing import also_if_longer
from support.keyspace import dump, raw
from support.session_states import CHECKPOINTS, METADATA
from support.stored_sessions import HOUR, MINUTE, described, snapshot_of
from torpor.history import calls, compression
from torpor.history.calls import configuration
from torpor.history.compression import DICTIONARY
from torpor.history.errors import DictionaryUnknown
from torpor.history.protocol import (
    ANY_OWNER,
    Compression,
    Expiry,
    Lease,
    RedisRefused,
    Repacked,
    SessionStore,
)

pytestmark = pytest.mark.skipif(
    configuration.UNRECORDED is Compression.ZSTD, reason="with --compression no deployment does without"
)
MESSAGES = list(Samples(5).some(300))
LIST = "{torpor:0}:m:s"
NONE, ZSTD = Compression.NONE, Compression.ZSTD
OTHER = {NONE: ZSTD, ZSTD: NONE}
# The packed forms of damaged elements: not a frame, a frame that can't be read, one that is kept as it is.
DAMAGED = [b"\x81", b"\x81\x20\x05xxxxxxx", b"\x80\x81{}"]


def stored(client: redis.Redis) -> list[bytes]:
    elements: list[bytes] = raw(client, "LRANGE", LIST, 0, -1)
    return elements


def compressed(client: redis.Redis) -> list[bool]:
    return [element[0] == 0x80 + DICTIONARY for element in stored(client)]


def all_but_the_list(client: redis.Redis) -> dict[bytes, Any]:
    return {key: value for key, value in dump(client).items() if key != LIST.encode()}


def test_messages_are_compressed_and_made_plain_again_and_nothing_else_changes(
    client: redis.Redis, store: SessionStore
) -> None:
    store.append("s", MESSAGES, owner="ann", expiry=Expiry(HOUR, HOUR, HOUR))
    plain, before = stored(client), all_but_the_list(client)
    size = sum(map(len, plain))
    looked = store.repack("s", ZSTD, dry_run=True)
    assert stored(client) == plain
    packed = store.repack("s", ZSTD)
    assert packed == looked
    assert all(compressed(client))
    assert store.messages("s", touch=False) == MESSAGES
    smaller = sum(map(len, stored(client)))
    assert packed == Repacked(len(MESSAGES), 0, size, smaller)
    assert smaller < size / 2
    assert store.repack("s", ZSTD) == Repacked(0, 0, smaller, smaller)
    assert store.repack("s", NONE) == Repacked(len(MESSAGES), 0, smaller, size)
    assert stored(client) == plain
    assert all_but_the_list(client) == before
    assert store.repack("nobody", ZSTD) == Repacked()


def test_a_held_session_a_quarantined_one_and_a_leased_one_are_rewritten_and_stay_so(
    client: redis.Redis, store: SessionStore
) -> None:
    store.append("s", MESSAGES[:2])
    store.hold("s", "why")
    lease = store.claim_one("s", MINUTE)
    before = all_but_the_list(client)
    assert store.repack("s", ZSTD).messages == 2
    assert all_but_the_list(client) == before
    assert isinstance(lease, Lease)
    assert store.quarantine(lease, "why")
    before = all_but_the_list(client)
    assert store.repack("s", NONE).messages == 2
    assert all_but_the_list(client) == before


def test_an_attempt_in_the_middle_ends_as_if_nothing_had_been_rewritten(
    client: redis.Redis, store: SessionStore
) -> None:
    store.append("s", MESSAGES)
    lease = store.claim_one("s", MINUTE)
    assert isinstance(lease, Lease)
    snapshot = snapshot_of(store, lease)
    pages = store.pages("s")
    first = next(pages)
    assert store.repack("s", ZSTD).messages == len(MESSAGES)
    assert [*first.messages, *(each for page in pages for each in page.messages)] == MESSAGES
    assert store.run(calls.commit(store.deployment, lease, snapshot)).value == "deleted"
    assert not raw(client, "EXISTS", LIST, METADATA)


def test_a_thread_stays_as_it_is(client: redis.Redis, store: SessionStore) -> None:
    store.write_record("s", calls.NewRecord("", "c", CHECKPOINTS[0] + 500 * b"a"))
    before = stored(client)
    for how in Compression:
        assert store.repack("s", how) == Repacked()
    assert stored(client) == before


@pytest.mark.parametrize("how", Compression)
def test_damaged_messages_stay_as_they_are_and_are_counted(
    client: redis.Redis, store: SessionStore, how: Compression
) -> None:
    store.append("s", MESSAGES[:2])
    store.repack("s", OTHER[how])
    for element in [*DAMAGED, b"no JSON"]:
        raw(client, "RPUSH", LIST, element)
    before = store.messages("s")
    done = store.repack("s", how)
    assert (done.messages, done.damaged, done.changed) == (2, len(DAMAGED), False)
    assert stored(client)[2:] == [*DAMAGED, b"no JSON"]
    assert store.messages("s") == before


def test_a_message_of_a_newer_dictionary_is_refused_and_stays(client: redis.Redis, store: SessionStore) -> None:
    store.append("s", MESSAGES[:1])
    store.repack("s", ZSTD)
    [element] = stored(client)
    raw(client, "LSET", LIST, 0, bytes([0x80 + DICTIONARY + 1]) + element[1:])
    before = dump(client)
    with pytest.raises(DictionaryUnknown):
        store.repack("s", NONE)
    assert dump(client) == before


def test_a_key_of_another_type_is_refused(client: redis.Redis, store: SessionStore) -> None:
    store.append("s", MESSAGES[:1])
    raw(client, "DEL", LIST)
    raw(client, "SET", LIST, "text")
    with pytest.raises(RedisRefused):
        store.repack("s", ZSTD)


def test_a_message_that_is_not_where_it_was_read_is_not_touched(client: redis.Redis, store: SessionStore) -> None:
    store.append("s", MESSAGES[:3])
    plain = stored(client)
    wanted = [compression.repacked(each, ZSTD) or b"" for each in plain]
    read = [(0, plain[0], wanted[0]), (1, plain[2], wanted[2]), (9, plain[2], wanted[2])]
    assert store.run(calls.repack(store.deployment, "s", read)) == 1
    assert stored(client) == [wanted[0], plain[1], plain[2]]
    assert store.run(calls.repack(store.deployment, "s", read)) == 1, "sent again"


class Between(SessionStore):
    """A store that does something before each call of some scripts."""

    names: tuple[str, ...]
    then: Callable[[], object]

    def run(self, call: calls.Call[Any]) -> Any:
        if call.script.name in self.names:
            self.then()
        return super().run(call)


def between(client: redis.Redis, then: Callable[[], object], *names: str) -> SessionStore:
    made = Between(client, shards=1)
    made.names, made.then = names or ("repack",), then
    return made


def test_what_is_written_meanwhile_is_neither_lost_nor_doubled(client: redis.Redis, store: SessionStore) -> None:
    store.append("s", MESSAGES[:100])
    later = iter(MESSAGES[100:])
    done = between(client, lambda: store.append("s", [next(later)])).repack("s", ZSTD)
    assert not done.changed
    written = described(store).message_count
    assert written > 100
    assert store.messages("s") == MESSAGES[:written]
    assert all(compressed(client)[:100])


def test_a_session_that_begins_anew_meanwhile_is_walked_again(client: redis.Redis, store: SessionStore) -> None:
    store.append("s", MESSAGES[:10])
    new = iter([MESSAGES[20:30]])

    def begin_anew() -> None:
        for messages in new:
            store.clear("s")
            store.append("s", messages)

    done = between(client, begin_anew).repack("s", ZSTD)
    assert (done.messages, done.changed) == (10, False)
    assert store.messages("s") == MESSAGES[20:30]
    assert all(compressed(client))


def test_a_session_that_never_stands_still_is_left_and_told_of(client: redis.Redis, store: SessionStore) -> None:
    store.append("s", MESSAGES[:10])
    numbers = iter(range(1, 1000))

    def anew() -> None:
        store.clear("s")
        store.append("s", MESSAGES[next(numbers) :][:10])

    done = between(client, anew).repack("s", ZSTD)
    assert (done.messages, done.changed) == (0, True)
    assert len(store.messages("s")) == 10


def test_a_session_that_leaves_redis_meanwhile_is_done(client: redis.Redis, store: SessionStore) -> None:
    store.append("s", MESSAGES[:10])
    done = between(client, lambda: raw(client, "DEL", LIST, METADATA)).repack("s", ZSTD)
    assert not done.changed
    assert not raw(client, "EXISTS", LIST, METADATA)


# What users do between any two calls of those who compress and those who make plain.
ACTS = st.lists(st.sampled_from(["append", "clear", "pop", "pack", "unpack", "nothing"]), min_size=5, max_size=25)


@given(acts=ACTS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_interleaving_loses_or_doubles_a_message(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, acts: list[str]
) -> None:
    client.flushall()
    with monkeypatch.context() as patch:
        patch.setattr(compression, "_stored", also_if_longer(compression._stored))
        patch.setattr("torpor.history.store.repacking.PAGE_BYTES", 20)  # two or three messages
        patch.setattr("torpor.history.store.repacking._AT_ONCE", 1)
        World(client, deque(acts)).run()


@dataclass
class World:
    """A session that is used while others rewrite it, up to three at once, and what was said in it."""

    client: redis.Redis
    acts: deque[str]
    said: list[bytes] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    rewriting: int = 0

    def run(self) -> None:
        self.store = SessionStore(self.client, shards=1)
        self.store.clear("s")  # so that no part of it is in the archive alone, which a pop could not be for
        self.say(5)
        while self.acts:
            self.act()
        for how in (ZSTD, NONE):
            assert not self.store.repack("s", how).changed
            assert self.store.messages("s") == self.said
            assert all((each[0] == 0x80 + DICTIONARY) == (how is ZSTD) for each in stored(self.client))

    def say(self, messages: int) -> None:
        new = [b'{"n":%d}' % next(self.numbers) for _ in range(messages)]
        self.store.append("s", new)
        self.said += new

    def act(self) -> None:
        what = self.acts.popleft() if self.acts else "nothing"
        if what == "append":
            self.say(1)
        elif what == "clear":
            self.store.clear("s")
            self.said.clear()
        elif what == "pop" and self.said:
            page = self.store.run(calls.read(self.store.deployment, "s", -1, None, 1024, touch=False, owner=ANY_OWNER))
            assert page
            assert self.store.pop("s", page)
            self.said.pop()
        elif what in ("pack", "unpack") and self.rewriting < 3:
            self.rewriting += 1
            between(self.client, self.act, "read", "repack").repack("s", ZSTD if what == "pack" else NONE)
            self.rewriting -= 1
        assert self.store.messages("s", touch=False) == self.said
