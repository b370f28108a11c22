"""Messages that Redis has compressed: nobody but Redis sees a difference."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from dictionary.samples import Samples
from support.compressing import compressed, set_to, stored
from support.foreign import LAYOUTS, Foreign
from support.keyspace import dump, raw
from support.objects import content
from support.servers import RedisServer
from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory
from torpor.history.calls import configuration
from torpor.history.compression import DICTIONARY
from torpor.history.protocol import Compression, DictionaryUnknown
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.ops import doctor
from torpor.worker.ops.finding import Ailment
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.transfer.give_back import give_back, returned
from torpor.worker.wake.restore import RestoreOutcome, restore_session

pytestmark = pytest.mark.skipif(
    configuration.UNRECORDED is Compression.ZSTD, reason="with --compression no deployment does without"
)
MESSAGES = list(Samples(11).some(40))


def test_a_setting_of_the_worker_has_all_clients_compress(client: redis.Redis, redis_server: RedisServer) -> None:
    set_to(client, Compression.ZSTD)
    with redis_server.client() as other:
        chat = MemorystoreChatMessageHistory(other, "s", owner="ann")
        said = [HumanMessage("Could you please tell me where my package is?"), AIMessage("One moment, please.")]
        chat.add_messages(said)
        assert compressed(client) == [True, True]
        assert chat.messages == said


def test_old_and_new_messages_stand_in_one_list_and_a_change_rewrites_nothing(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    settings = [Compression.NONE, Compression.ZSTD, Compression.NONE, Compression.ZSTD]
    for number, how in enumerate(settings):
        with redis_server.client() as fresh:
            before = stored(client) if number else []
            store = set_to(fresh, how)
            assert (stored(client) if number else []) == before
            store.append("s", MESSAGES[10 * number : 10 * number + 10])
            assert store.messages("s") == MESSAGES[: 10 * number + 10]
    assert compressed(client) == 10 * [False] + 10 * [True] + 10 * [False] + 10 * [True]


@pytest.mark.parametrize("woken_with", Compression)
def test_the_archive_has_plain_messages_and_they_come_back_as_the_deployment_is_then(
    client: redis.Redis, services: Services, redis_server: RedisServer, woken_with: Compression
) -> None:
    set_to(client, Compression.ZSTD).append("s", MESSAGES)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    [segment] = contents.look(services.archive, "s").segments
    lines = gzip.decompress(content(services.archive, segment.stored)).splitlines()
    assert [json.loads(line)["message"] for line in lines] == [json.loads(each) for each in MESSAGES]
    assert read_transcript(services, "s") == MESSAGES
    with redis_server.client() as fresh:
        awake = replace(services, sessions=set_to(fresh, woken_with))
        assert restore_session(awake, "s").outcome is RestoreOutcome.RESTORED
        assert awake.sessions.messages("s") == MESSAGES
    assert set(compressed(client)) == {woken_with is Compression.ZSTD}


def test_an_adopted_session_is_compressed_and_goes_back_as_it_came(client: redis.Redis, services: Services) -> None:
    set_to(client, Compression.ZSTD)
    theirs = Foreign(client, LAYOUTS["community"], "s")
    theirs.add(*(HumanMessage(f"Is there anything else that I can do for you? {number}") for number in range(30)))
    before = theirs.elements
    assert services.sessions.adopt("s", LAYOUTS["community"]) == 30
    assert all(compressed(client))
    give_back(services, "s", returned(theirs.layout, theirs.layout.prefix), None)
    assert [json.loads(each) for each in theirs.elements] == [json.loads(each) for each in before]


def test_a_page_ends_by_what_its_messages_take_in_memory(client: redis.Redis) -> None:
    store = set_to(client, Compression.ZSTD)
    large = [b'"%d%b"' % (number, 300_000 * b"a") for number in range(10)]
    store.append("s", large)
    assert sum(map(len, stored(client))) < 10_000
    pages = list(store.pages("s"))
    assert [len(page.messages) for page in pages] == [4, 4, 2]
    assert [each for page in pages for each in page.messages] == large


@pytest.mark.parametrize("header", [b"\x20\x00", b"\x20\x01", b"\x60\x00\x00"])
def test_a_page_of_elements_that_claim_less_than_they_have_ends_all_the_same(
    client: redis.Redis, header: bytes
) -> None:
    store = set_to(client, Compression.NONE)
    store.append("s", MESSAGES[:1])
    [key] = raw(client, "KEYS", "*:m:s")
    hostile = [b"\x81" + header + bytes(600_000)] * 9
    raw(client, "RPUSH", key, *hostile)
    pages = list(store.pages("s"))
    assert [len(page.messages) for page in pages] == [3, 2, 2, 2, 1]
    assert [each for page in pages for each in page.messages] == [MESSAGES[0], *hostile]


def test_a_damaged_message_is_named_kept_and_archived_with_its_bytes(client: redis.Redis, services: Services) -> None:
    set_to(client, Compression.ZSTD).append("s", MESSAGES[:3])
    [key] = raw(client, "KEYS", "*:m:s")
    damaged = stored(client)[1][:-5]
    raw(client, "LSET", key, 1, damaged)
    expected = [MESSAGES[0], damaged, MESSAGES[2]]
    assert services.sessions.messages("s") == expected
    [finding] = [each for each in doctor.examine(services) if each.session_id == "s"]
    assert (finding.ailment, finding.detail) == (Ailment.CORRUPT, "message 1; 1 of 3")
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "s") == expected
    restore_session(services, "s")
    assert services.sessions.messages("s") == expected


def test_a_client_without_the_dictionary_is_refused_before_it_writes(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    set_to(client, Compression.ZSTD)
    raw(client, "HSET", "torpor:config", "dictionary", DICTIONARY + 1)
    before = dump(client)
    with redis_server.client() as other:
        chat = MemorystoreChatMessageHistory(other, "s")
        with pytest.raises(DictionaryUnknown, match=f"dictionary {DICTIONARY + 1}.*upgrade"):
            chat.add_messages([HumanMessage("hello")])
        with pytest.raises(DictionaryUnknown):
            set_to(other, Compression.NONE)
    assert dump(client) == before


def test_the_newest_dictionary_stays_recorded(client: redis.Redis) -> None:
    set_to(client, Compression.NONE)
    assert raw(client, "HGET", "torpor:config", "dictionary") is None
    set_to(client, Compression.ZSTD)
    set_to(client, Compression.NONE)
    assert raw(client, "HMGET", "torpor:config", "compression", "dictionary") == [None, b"%d" % DICTIONARY]
