"""Sessions that go back to another library."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from support.adopting import TURN, WEIRD_IDS, Killed, Moments, history
from support.foreign import Foreign
from support.keyspace import dump, raw
from support.observed import ObservedStore
from torpor.history import calls
from torpor.history.protocol import (
    InvalidArgument,
    Layout,
    MessageCorrupt,
    PermanentError,
    SessionExists,
    SessionStore,
)

# And back again


@pytest.mark.parametrize("session_id", WEIRD_IDS, ids=repr)
def test_what_is_given_back_is_what_the_other_library_reads(
    client: redis.Redis, sessions: SessionStore, session_id: str
) -> None:
    chat = history(client, session_id)
    chat.add_messages(TURN * 60)
    sessions.give_back(session_id, sessions.messages(session_id), layout=Layout())
    theirs = Foreign(client, session_id=session_id)
    assert theirs.messages == TURN * 60
    assert theirs.elements == sessions.messages(session_id)
    assert raw(client, "PTTL", theirs.key) == -1
    assert not raw(client, "KEYS", "torpor:returning:*")


def test_what_is_given_back_has_the_ttl_that_it_is_to_have(client: redis.Redis, sessions: SessionStore) -> None:
    sessions.give_back("s", [b'{"type":"human","data":{"content":""}}'], ttl=timedelta(seconds=90), layout=Layout())
    assert 89_000 < raw(client, "PTTL", "s") <= 90_000


def test_a_key_that_is_in_use_is_never_replaced(client: redis.Redis, sessions: SessionStore) -> None:
    Foreign(client).add("theirs")
    before = dump(client)
    with pytest.raises(SessionExists, match="the key 's' exists already"):
        sessions.give_back("s", [b'{"type":"human","data":{"content":""}}'], layout=Layout())
    assert dump(client) == before


@pytest.mark.parametrize("element", [b"{}", b"text", b'{"type":"human"}'])
def test_what_is_no_message_is_not_given_to_another_library(
    client: redis.Redis, sessions: SessionStore, element: bytes
) -> None:
    with pytest.raises(MessageCorrupt, match="message 1 of session 's'"):
        sessions.give_back("s", [b'{"type":"human","data":{"content":""}}', element], layout=Layout())
    with pytest.raises(InvalidArgument, match="no messages"):
        sessions.give_back("s", [], layout=Layout())
    assert not raw(client, "KEYS", "*")


@pytest.mark.parametrize("dies_at", range(8))
def test_a_giver_that_is_killed_leaves_nothing_or_all_of_it(client: redis.Redis, dies_at: int) -> None:
    passing = Moments()
    store = ObservedStore(client, passing)
    passing.passed, passing.dies_at = 0, dies_at
    messages = [b'{"type":"human","data":{"content":"%d"}}' % number for number in range(250)]
    with pytest.raises(Killed):
        store.give_back("s", messages, layout=Layout())
    assert Foreign(client).elements == (messages if dies_at == 7 else [])
    assert all(raw(client, "PTTL", key) > 0 for key in raw(client, "KEYS", "torpor:returning:*"))


def test_a_giving_whose_reply_was_lost_is_given_once(client: redis.Redis, sessions: SessionStore) -> None:
    messages = [b'{"type":"human","data":{"content":""}}'] * 2
    place = "torpor", b"s", b"0a1b"
    for call in (
        calls.stage_return(*place, messages, staged=0, lease=timedelta(minutes=1)),
        calls.give_back(*place, 2, None),
    ):
        sessions.run(call)
        sessions.run(call)
    assert Foreign(client).elements == messages
    with pytest.raises(PermanentError):
        sessions.run(calls.give_back("torpor", b"s", b"ffff", 3, None))
