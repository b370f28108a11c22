"""Sessions whose ids are the names of other programs' keys: they are given back and adopted nowhere else."""

from __future__ import annotations

import json

import pytest
import redis

from support.adopting import TURN
from support.command import Torpor
from support.foreign import LAYOUTS, Foreign
from support.keyspace import dump, raw
from torpor import MemorystoreChatMessageHistory
from torpor.history.formats.reserved import RETURN_PREFIX
from torpor.history.protocol import Layout, MessageCorrupt, NotAdoptable, SessionStore

RESERVED = [
    *("torpor", "torpor:celery:torpor", "torpor:celery:torpor\x06\x163", "torpor-events", "celery", "unacked"),
    *("_kombu.binding.celery", "torpor:config", "torpor:anything", "{torpor:7}:m:s", "{another:7}:m:s"),
]


folder = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


@folder
@pytest.mark.parametrize("session_id", RESERVED, ids=repr)
def test_no_session_is_given_back_to_a_key_of_torpor_or_celery(
    client: redis.Redis, torpor: Torpor, session_id: str
) -> None:
    for each in ("good", session_id):
        MemorystoreChatMessageHistory(client, each).add_messages(TURN)
    before = dump(client)
    done = torpor("export", "good", session_id, "--to-memorystore", "--prefix", "")
    assert (done.code, "give another --prefix" in done.err) == (2, True), done
    assert dump(client) == before
    everything = torpor("export", "--all", "--to-memorystore", "--prefix", "")
    assert (everything.code, "1 sessions or shards" in everything.err) == (1, True), everything
    added = dump(client).keys() - before.keys()
    assert added == {b"good"}


@folder
@pytest.mark.parametrize("session_id", RESERVED, ids=repr)
def test_below_the_prefix_every_id_is_given_back(client: redis.Redis, torpor: Torpor, session_id: str) -> None:
    MemorystoreChatMessageHistory(client, session_id).add_messages(TURN)
    before = dump(client)
    assert torpor("export", session_id, "--to-memorystore").code == 0
    assert dump(client).keys() - before.keys() == {RETURN_PREFIX.encode() + session_id.encode()}
    assert Foreign(client, Layout(RETURN_PREFIX), session_id).messages == TURN


@folder
@pytest.mark.parametrize(
    "prefix", ["torpor:", "{torpor:", "torpor:celery:", "_kombu.", "{torpor:7}:m:", "unacked"], ids=repr
)
def test_a_prefix_that_leads_to_such_a_key_is_refused(client: redis.Redis, torpor: Torpor, prefix: str) -> None:
    MemorystoreChatMessageHistory(client, "s").add_messages(TURN)
    before = dump(client)
    done = torpor("export", "s", "--to-memorystore", "--prefix", prefix)
    assert (done.code, dump(client)) == (2, before), done


# A message that a framework, or another program, reads as something else too.
INEXACT = {
    "a task besides": {"type": "human", "data": {"content": ""}, "body": "", "headers": {}, "properties": {}},
    "an item besides": {"type": "human", "data": {"content": ""}, "role": "user"},
    "an item": {"role": "user", "content": ""},
    "a task": {"body": "", "headers": {}, "properties": {}, "content-type": "application/json"},
}


@pytest.mark.parametrize("name", INEXACT)
def test_only_an_element_that_is_exactly_a_message_is_given_back(
    client: redis.Redis, sessions: SessionStore, name: str
) -> None:
    elements = [b'{"type":"human","data":{"content":""}}', json.dumps(INEXACT[name]).encode()]
    with pytest.raises(MessageCorrupt, match="message 1 of session 's' is not a LangChain message"):
        sessions.give_back("s", elements)
    assert not raw(client, "KEYS", "*returning*")
    assert not raw(client, "EXISTS", RETURN_PREFIX + "s")


OTHERS = {
    "community's": ("message_store:ann", "it has the prefix of another format: --format community"),
    "community's in part": ("message_store:", "it has the prefix of another format: --format community"),
    "Torpor's": ("{torpor:7}:m:s", "it is Torpor's own"),
}


@pytest.mark.parametrize("whose", OTHERS)
@pytest.mark.parametrize("use", ["messages", "add_messages"])
def test_the_first_use_adopts_no_key_of_another_program(client: redis.Redis, whose: str, use: str) -> None:
    key, reason = OTHERS[whose]
    Foreign(client, session_id=key).add(*TURN)
    before = dump(client)
    chat = MemorystoreChatMessageHistory(client, key, adopt="memorystore")
    with pytest.raises(NotAdoptable, match=reason):
        _ = chat.messages if use == "messages" else chat.add_messages(TURN)
    assert {name: value for name, value in dump(client).items() if name != b"torpor:config"} == before


def test_each_format_adopts_the_keys_below_its_own_prefix(client: redis.Redis) -> None:
    Foreign(client, LAYOUTS["community"], "ann").add("anns")
    Foreign(client, session_id="ann").add("another's")
    chat = MemorystoreChatMessageHistory(client, "ann", adopt="community")
    assert [message.content for message in chat.messages] == ["anns"]
    assert SessionStore(client).adoptable("ann", LAYOUTS["memorystore"]) is not None
