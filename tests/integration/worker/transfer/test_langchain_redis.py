"""Sessions of langchain-redis, one JSON document a message: adopted whole, once, and in order; or left as they are.

The documents are the package's own; tests/readers/test_langchain_redis.py has the package itself.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from support.adopting import WEIRD_IDS, Killed, Moments, idle_seconds, leftovers
from support.captured import LANGCHAIN_REDIS, Captured
from support.command import Torpor
from support.keyspace import dump, raw
from support.observed import ObservedStore
from support.servers import RedisServer
from support.stack import start_stack
from torpor import Layout, MemorystoreChatMessageHistory, NotAdoptable, SessionArchive
from torpor.history import calls
from torpor.history.formats.original import original_of
from torpor.history.protocol import FORMATS, SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

THEIRS = FORMATS["langchain-redis"]
ALL = [pytest.param(each, id=each.name) for each in LANGCHAIN_REDIS]
folder = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
pytestmark = pytest.mark.single_node(reason="the documents of a session are in several slots")


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_stack(tmp_path_factory.mktemp("stack"))
    yield server
    server.stop()


@pytest.fixture(params=["index", "no index"])
def client(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[redis.Redis]:
    """An empty server, with the index that the library makes, or without one."""
    with redis_server.client() as connected:
        connected.flushall()
        if request.param == "index":
            make_index(connected)
        yield connected
        connected.flushall()


def make_index(
    client: Any, name: str = "idx:chat_history", prefix: str = "chat:", separator: str = "SEPARATOR ,"
) -> None:
    fields = f"$.session_id AS session_id TAG {separator} $.data.content AS content TEXT $.type AS type TAG"
    made = f"{name} ON JSON PREFIX 1 {prefix} SCHEMA {fields} $.timestamp AS timestamp NUMERIC"
    raw(client, "FT.CREATE", *made.split())


_MOMENTS = itertools.count(1_795_996_759)


def ulid(number: int) -> str:
    return f"{number:026d}"


class Writer:
    """Writes documents as the library does."""

    def __init__(self, client: Any, session_id: str = "s", prefix: str = "chat:", ttl: int | None = None) -> None:
        self._client, self._session_id, self._prefix, self._ttl = client, session_id, prefix, ttl

    def add(self, *texts: Any, kind: str = "human") -> list[str]:
        return [
            self.put({"type": kind, "data": {"content": text, "additional_kwargs": {}, "type": kind}}) for text in texts
        ]

    def put(self, message: dict[str, Any]) -> str:
        moment = next(_MOMENTS)
        # As with several writers, the names are in another order than the times.
        key = f"{self._prefix}{self._session_id}:{ulid(10**9 - moment % 10**9)}"
        document = {**message, "message_id": key[-26:], "session_id": self._session_id, "timestamp": moment + 0.5}
        raw(self._client, "JSON.SET", key, "$", json.dumps(document))
        if self._ttl:
            raw(self._client, "EXPIRE", key, self._ttl)
        return key


def documents(client: Any) -> dict[bytes, bytes]:
    found = raw(client, "KEYS", "*:*")
    return {key: raw(client, "JSON.GET", key) for key in found if raw(client, "TYPE", key) == b"ReJSON-RL"}


def history(client: Any, session_id: str = "s", adopt: Any = "langchain-redis", **options: Any) -> Any:
    return MemorystoreChatMessageHistory(client, session_id, adopt=adopt, **options)


def said(client: Any, session_id: str = "s", adopt: Any = "langchain-redis") -> list[Any]:
    return [message.content for message in history(client, session_id, adopt).messages]


@folder
@pytest.mark.parametrize("version", ALL)
def test_every_kind_of_message_is_read_and_its_document_kept(
    client: redis.Redis, services: Services, version: Captured
) -> None:
    elements = [each for kind, each in version.elements.items() if kind != "remove"]
    for number, element in enumerate(elements):
        changed = {**json.loads(element), "timestamp": 1795996759 + number}
        raw(client, "JSON.SET", f"chat:s:{ulid(number)}", "$", json.dumps(changed))
    written = [each for _, each in sorted(documents(client).items())]
    read = history(client).messages
    assert [each.type for each in read] == [json.loads(each)["type"] for each in elements]
    assert [each.content for each in read] == [json.loads(each)["data"]["content"] for each in elements]
    assert documents(client) == {}
    stored = services.sessions.messages("s")
    assert [original_of(each, "langchain-redis") for each in stored] == written
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert history(client, adopt=None, archive=SessionArchive(services.archive.url)).messages == read


@pytest.mark.parametrize("version", ALL)
def test_the_messages_stand_in_the_order_of_their_times(client: redis.Redis, version: Captured) -> None:
    for key, element in reversed(list(zip(version.keys, version.session, strict=True))):
        raw(client, "JSON.SET", key, "$", element)
    assert [each.type for each in history(client, "session").messages] == ["system", "human", "ai", "tool", "ai"]


def test_sessions_that_the_search_confuses_stay_apart(client: redis.Redis) -> None:
    ids = [*(each for each in WEIRD_IDS if "\n" not in each), "Ann", "ann", "a,b", "b", ",", " a ", "s:t", "chat:s"]
    for session_id in ids:
        Writer(client, session_id).add(f"first of {session_id}", f"second of {session_id}")
    for session_id in ids:
        assert said(client, session_id) == [f"first of {session_id}", f"second of {session_id}"]
    assert documents(client) == {}
    assert leftovers(client) == []


def test_an_index_saves_the_walk_over_the_key_space(client: redis.Redis) -> None:
    has_index = bool(raw(client, "FT._LIST"))
    for session_id in ("s", "an-id: with {signs}", "Ann", "a,b"):
        Writer(client, session_id).add("a")
        raw(client, "CONFIG", "RESETSTAT")
        assert said(client, session_id) == ["a"]
        used = client.info("commandstats")
        assert ("cmdstat_FT.SEARCH" in used, "cmdstat_scan" in used) == (has_index, not has_index), session_id


def test_a_message_that_the_index_lacks_is_adopted_too(client: redis.Redis) -> None:
    """The search can't read a content of blocks as text, so the library itself never shows such a message again."""
    blocks = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}]
    Writer(client).add("a", blocks, "b")
    assert said(client) == ["a", blocks, "b"]


def test_another_index_with_the_prefix_is_as_good(client: redis.Redis) -> None:
    make_index(client, "theirs", "mine:", separator="")
    Writer(client, "s,t", prefix="mine:").add("a", "b")
    Writer(client, "s,t").add("c")
    layout = type(THEIRS)("mine:")
    assert SessionStore(client).adopt("s,t", layout) == 2
    assert said(client, "s,t") == ["a", "b", "c"]


@pytest.mark.parametrize(
    "element", ['{"a": 1}', '{"type": "human", "data": {"content": 7}}', '{"type": "alien", "data": {}}']
)
def test_a_session_with_anything_else_stays_as_it_is(client: redis.Redis, element: str) -> None:
    writer = Writer(client)
    writer.add("a")
    writer.put(json.loads(element))
    history(client, "other", adopt=None).add_user_message("the deployment is known")
    before = dump(client), documents(client)
    with pytest.raises(NotAdoptable, match="message 1: not all of it is documents of langchain-redis") as refused:
        said(client)
    assert r"'chat:s:*'" in str(refused.value)
    assert (dump(client), documents(client)) == before


def test_the_longest_ttl_becomes_the_idle_timeout_and_none_is_none(client: redis.Redis) -> None:
    Writer(client, ttl=600).add("a")
    Writer(client, ttl=3_000).add("b")
    Writer(client, ttl=1_000).add("c")
    assert idle_seconds(history(client)) == 3_000
    Writer(client, "t", ttl=600).add("a")
    Writer(client, "t").add("b")
    assert idle_seconds(history(client, "t")) == 86_400


@folder
def test_killed_anywhere_an_adoption_is_finished_by_the_next(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.history.store.adoption.PAGE_BYTES", 400)  # two messages or so
    monkeypatch.setattr("torpor.history.store.sources._TAKEN", 3)
    SessionStore(client).append("other", [b"{}"])  # the deployment is known
    moment = 0
    while True:
        session_id = f"s{moment}"
        writer = Writer(client, session_id, ttl=600)
        writer.add(*"abcde")
        passing = Moments()
        store = ObservedStore(client, passing)
        passing.passed, passing.dies_at = 0, moment
        try:
            store.adopt(session_id, THEIRS)
            break
        except Killed:
            pass
        if moment % 2:
            writer.add("f")
        if moment % 3 == 0:
            archive_session(services, session_id)
        chat = history(client, session_id, archive=SessionArchive(services.archive.url))
        assert [each.content for each in chat.messages] == [*"abcdef"][: 5 + moment % 2], moment
        for ended in services.sessions.adoptions():  # killed just before its record was deleted
            assert services.sessions.finish_adoption(ended) == 0
        assert leftovers(client) == []
        moment += 1
    assert moment > 30
    assert documents(client) == {}


def test_of_many_who_adopt_at_once_each_message_is_written_by_one(
    client: redis.Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.history.store.sources._TAKEN", 3)
    sessions = [f"s{number}" for number in range(10)]
    for session_id in sessions:
        Writer(client, session_id).add(*"abcdefg")
    together = threading.Barrier(4)

    def adopt_all(_: int) -> int:
        with redis_server.client() as connected:
            store = SessionStore(connected)
            together.wait()
            return sum(store.adopt(session_id, THEIRS) for session_id in sessions)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(adopt_all, range(4))) >= 7 * len(sessions)
    assert [said(client, session_id) for session_id in sessions] == [[*"abcdefg"]] * len(sessions)
    assert (leftovers(client), documents(client)) == ([], {})


def test_a_taking_that_is_sent_again_takes_nothing_more(client: redis.Redis) -> None:
    store = SessionStore(client)
    keys = [key.encode() for key in Writer(client).add("a", "b")]
    sent = calls.take_documents("torpor", "s", THEIRS, "0a1b", keys)
    assert [store.run(sent), store.run(sent)] == [True, False]
    assert said(client) == ["a", "b"]
    Writer(client).add("c")
    assert store.run(sent) is False
    assert said(client) == ["a", "b", "c"]


def test_what_comes_or_expires_meanwhile_is_neither_lost_nor_invented(client: redis.Redis) -> None:
    writer = Writer(client)
    keys = iter(writer.add(*map(str, range(10)))[::2])
    numbers = iter(range(10, 30))

    def go_on() -> None:
        if (number := next(numbers, None)) is not None:
            writer.add(str(number))
        if (key := next(keys, None)) is not None and raw(client, "UNLINK", key):
            gone.append(key)

    gone: list[str] = []
    passing = Moments()
    store = ObservedStore(client, passing)
    passing.meanwhile = go_on
    store.adopt("s", THEIRS)
    assert next(numbers, None) is None
    read = [int(each) for each in said(client)]
    assert sorted(read) == read
    assert len(read) == 30 - len(gone)
    assert len(gone) > 0


def test_a_session_of_thousands_is_adopted_in_order(client: redis.Redis) -> None:
    Writer(client).add(*map(str, range(5_500)))
    assert said(client) == [str(number) for number in range(5_500)]
    assert documents(client) == {}


@pytest.mark.parametrize("prefix", ["chat:", "mine:"])
def test_a_layout_of_lists_names_the_format_of_what_lies_there(client: redis.Redis, prefix: str) -> None:
    Writer(client, prefix=prefix).add("a")
    before = documents(client)
    with pytest.raises(NotAdoptable, match="stored in another way: name the format langchain-redis"):
        said(client, adopt=Layout(prefix))
    assert documents(client) == before
    assert said(client, "another", adopt=Layout(prefix)) == []


@folder
def test_all_sessions_are_detected_and_adopted_in_bulk(client: redis.Redis, torpor: Torpor) -> None:
    for session_id in ("user-1", "user-2", "user-1:a", "bot"):
        Writer(client, session_id).add("a", "b")
    raw(client, "JSON.SET", "chat:settings", "$", "{}")
    raw(client, "JSON.SET", f"cart:1:{ulid(7)}", "$", "{}")
    [found] = torpor("adopt", "--detect", "*", "--json").json
    assert (found["name"], found["sessions"], found["example"][-2:]) == ("langchain-redis", 4, ":*")
    assert found["command"] == "torpor adopt --match '*' --format langchain-redis --dry-run"
    [some] = torpor("adopt", "--detect", "chat:user-*", "--json").json
    assert (some["sessions"], some["command"].split()[3]) == (3, "'user-*'")
    planned = torpor("adopt", "--match", "user-1", "--format", "langchain-redis", "--dry-run", "--json").json
    assert [each["session_id"] for each in planned["planned"]] == ["user-1"]
    assert (
        torpor("adopt", "--match", "user-1", "--format", "langchain-redis").out == "adopted: 1 sessions, 2 messages\n"
    )
    assert torpor("adopt", "--match", "*", "--format", "langchain-redis").out == "adopted: 3 sessions, 6 messages\n"
    assert [said(client, each, adopt=None) for each in ("user-1", "user-2", "user-1:a", "bot")] == [["a", "b"]] * 4
    assert documents(client).keys() == {b"chat:settings", f"cart:1:{ulid(7)}".encode()}


@folder
def test_nothing_is_given_back(client: redis.Redis, torpor: Torpor) -> None:
    history(client, adopt=None).add_user_message("a")
    refused = torpor("export", "s", "--to", "langchain-redis")
    assert (refused.code, "sessions of langchain-redis are only adopted" in refused.err) == (2, True)


def test_at_the_memory_limit_documents_can_still_be_adopted(tmp_path: Path) -> None:
    server = start_stack(tmp_path, "--maxmemory-policy", "noeviction")
    try:
        with server.client() as client:
            Writer(client).add(*"abc")
            raw(client, "CONFIG", "SET", "maxmemory", "1")
            assert said(client) == [*"abc"]
            assert (leftovers(client), documents(client)) == ([], {})
    finally:
        server.stop()
