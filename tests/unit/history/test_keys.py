"""Which shard a session belongs to, and what its keys are called."""

from __future__ import annotations

import zlib
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from torpor.history.errors import InvalidArgument, InvalidOwner, InvalidSessionId
from torpor.history.ids import MAX_ID_BYTES, MAX_SHARDS, check_namespace, check_shards, encode_owner, encode_session_id
from torpor.history.keys import (
    Keyspace,
    ShardKeys,
    adopted_key,
    adopting_key,
    adopting_pattern,
    archive_health_key,
    config_key,
    events_key,
    is_torpors_list,
    own_keys,
    purge_lock_key,
    returning_key,
)

KEYSPACE = Keyspace("torpor", 256)

WEIRD_IDS = [
    "a",
    "A",
    "a/b",
    "a%2Fb",
    "../a",
    "..",
    ".",
    " ",
    "a ",
    "a\n",
    "a\r\n",
    "\x00",
    "{a}",
    "{torpor:1}:m:a",
    "}{",
    "{}",
    "a:m:b",
    "m:a",
    ":due",
    "*",
    "😀",
    "ü",
    "u\u0308",
    "日本語",
]

ids = st.text(min_size=1, max_size=60)
braced = st.text("{}ab1", min_size=1, max_size=12).map(str.encode)


def session_keys(session_id: str, keyspace: Keyspace = KEYSPACE) -> list[bytes]:
    """Every key that carries a session's or owner's id."""
    session = encode_session_id(session_id)
    keys = keyspace.of(session)
    return [keys.messages(session), keys.metadata(session), keys.owner(session), keys.staging(session, b"0a1b")]


def all_keys(session_id: str, keyspace: Keyspace = KEYSPACE) -> list[bytes]:
    keys = keyspace.of(encode_session_id(session_id))
    return [keys.due, keys.quarantine, keys.tally, *session_keys(session_id, keyspace)]


def test_a_session_belongs_to_the_shard_of_its_crc32() -> None:
    # 0xCBF43926 is the check value of CRC-32 for these nine digits.
    assert KEYSPACE.shard_of(b"123456789") == 0xCBF43926 % 256
    assert KEYSPACE.of("ü/{1}".encode()) == KEYSPACE.shard(zlib.crc32("ü/{1}".encode()) % 256)


def test_the_names_of_the_keys_are_those_of_the_design() -> None:
    keys = ShardKeys(b"{torpor:7}")
    assert KEYSPACE.shard(7) == keys
    assert [keys.due, keys.quarantine, keys.tally] == [b"{torpor:7}:due", b"{torpor:7}:q", b"{torpor:7}:t"]
    assert [keys.messages(b"s"), keys.metadata(b"s")] == [b"{torpor:7}:m:s", b"{torpor:7}:s:s"]
    assert [keys.owner(b"ann"), keys.staging(b"s", b"0a")] == [b"{torpor:7}:o:ann", b"{torpor:7}:r:0a:s"]
    assert config_key("torpor") == b"torpor:config"


def test_sessions_spread_over_all_shards() -> None:
    counts = [0] * 16
    for number in range(1600):
        counts[Keyspace("torpor", 16).shard_of(encode_session_id(f"session-{number}"))] += 1
    assert min(counts) > 50


@given(session_id=ids, shards=st.integers(1, MAX_SHARDS))
def test_all_keys_of_a_session_are_in_the_slot_of_its_shard(session_id: str, shards: int) -> None:
    keyspace = Keyspace("torpor", shards)
    number = keyspace.shard_of(session_id.encode())
    assert 0 <= number < shards
    assert {key_slot(key) for key in all_keys(session_id, keyspace)} == {key_slot(b"torpor:%d" % number)}


@pytest.mark.parametrize("session_id", WEIRD_IDS, ids=repr)
def test_a_weird_id_keeps_to_the_hash_tag_of_its_shard(session_id: str) -> None:
    number = KEYSPACE.shard_of(session_id.encode())
    assert all(key.startswith(b"{torpor:%d}:" % number) for key in all_keys(session_id))


def test_weird_ids_stay_apart_even_in_one_shard() -> None:
    one_shard = Keyspace("torpor", 1)
    keys = [key for session_id in WEIRD_IDS for key in session_keys(session_id, one_shard)]
    shared = all_keys("a", one_shard)[:3]
    assert len({*keys, *shared}) == len(WEIRD_IDS) * 4 + 3


@given(st.sets(ids, min_size=2, max_size=2))
def test_two_sessions_share_no_key_of_their_own(session_ids: set[str]) -> None:
    one_shard = Keyspace("torpor", 1)
    first, second = (set(session_keys(session_id, one_shard)) for session_id in session_ids)
    assert not first & second


@settings(deadline=None)  # a slot's number is looked for the first time
@given(st.one_of(ids.map(str.encode), braced))
def test_what_is_taken_from_a_key_is_in_its_slot_and_names_it(key: bytes) -> None:
    taken = adopting_key("torpor", key)
    assert key_slot(taken) == key_slot(key) == key_slot(returning_key("torpor", key, b"0a1b"))
    assert adopted_key(taken) == key


@settings(deadline=None)
@given(st.sets(braced, min_size=2, max_size=2))
def test_what_is_taken_from_two_keys_stays_apart(keys: set[bytes]) -> None:
    assert len({adopting_key("torpor", key) for key in keys}) == 2


@pytest.mark.parametrize("key", [b"a", b"{a}", b"a}", b"}{", b"{}a", b"a{b}c{d}", b"{", b"{{a}}"], ids=repr)
def test_the_pattern_of_what_is_taken_matches_as_that_of_the_keys_does(key: bytes) -> None:
    # Of what Redis's patterns have, these use '*' alone.
    taken = adopting_key("torpor", key)
    head, _, tail = adopting_pattern("torpor", key).partition(b"*")
    assert taken.startswith(head)
    assert taken.endswith(tail)


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        (KEYSPACE.shard(7).messages(b"s"), True),
        (Keyspace("other.one", 9).shard(7).messages(b"s"), True),
        (KEYSPACE.shard(7).staging(b"s", b"0a"), True),
        (adopting_key("torpor", b"s"), True),
        (returning_key("torpor", b"s", b"0a"), True),
        (b"s", False),
        (b"torpor:7", False),
        (b"{user:7}:chat", False),
        (b"message_store:{torpor:7}:m:s", False),
    ],
    ids=repr,
)
def test_lists_of_torpors_own_are_known_whatever_the_namespace(key: bytes, *, ours: bool) -> None:
    assert is_torpors_list(key) is ours


def test_all_keys_of_a_deployment_are_known_as_its_own_and_no_others() -> None:
    ours = own_keys("torpor.1")
    mine = [*all_keys("s", Keyspace("torpor.1", 9)), config_key("torpor.1"), events_key("torpor.1")]
    mine += [archive_health_key("torpor.1")]
    assert all(map(ours.match, [*mine, purge_lock_key("torpor.1", "p"), adopting_key("torpor.1", b"s")]))
    assert not any(map(ours.match, [b"s", b"torpor.1", b"torpor.1:s", b"torporx1:config", b"{user:7}:chat"]))


def test_namespaces_stay_apart() -> None:
    namespaces = ["torpor", "Torpor", "torpor:1", "torpor:config", "torpor.1", "t"]
    for one, other in combinations(namespaces, 2):
        keys = {config_key(one)}.union(*(all_keys("a", Keyspace(one, shards)) for shards in (1, 2, 256)))
        others = {config_key(other)}.union(*(all_keys("a", Keyspace(other, shards)) for shards in (1, 2, 256)))
        assert not keys & others


@pytest.mark.parametrize("encode", [encode_session_id, encode_owner])
@pytest.mark.parametrize("text", ["x" * MAX_ID_BYTES, "😀" * (MAX_ID_BYTES // 4), "x"], ids=len)
def test_an_id_of_up_to_1024_bytes_is_its_utf8_form(encode: type, text: str) -> None:
    assert encode(text) == text.encode()


@pytest.mark.parametrize("encode", [encode_session_id, encode_owner])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "must not be empty"),
        ("x" * (MAX_ID_BYTES + 1), "1,025 bytes"),
        ("😀" * (MAX_ID_BYTES // 4) + "x", "1,025 bytes"),
        ("a\ud83d", "lone surrogate"),
        (None, "not NoneType"),
        (b"a", "not bytes"),
        (7, "not int"),
        (["a"], "not list"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_bad_id_is_refused_with_the_reason(encode: type, value: object, reason: str) -> None:
    with pytest.raises((InvalidSessionId, InvalidOwner), match=reason):
        encode(value)


@pytest.mark.parametrize("namespace", ["torpor", "a", "A-b_c.d:9", "x" * 64])
def test_a_namespace_is_letters_digits_and_a_few_signs(namespace: str) -> None:
    assert check_namespace(namespace) == namespace


@pytest.mark.parametrize("namespace", ["", "x" * 65, "a b", "a{b", "a}b", "a\n", "ü", "a/b", None, b"a", 7], ids=repr)
def test_a_namespace_that_could_break_the_hash_tag_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidArgument, match="namespace must be"):
        check_namespace(namespace)


@pytest.mark.parametrize("shards", [1, 256, MAX_SHARDS])
def test_there_can_be_up_to_16384_shards(shards: int) -> None:
    assert check_shards(shards) == shards


@pytest.mark.parametrize("shards", [0, -1, MAX_SHARDS + 1, 2.0, "2", True, None], ids=repr)
def test_a_shard_count_that_is_none_is_refused(shards: int) -> None:
    with pytest.raises(InvalidArgument, match="1 to 16,384"):
        check_shards(shards)
