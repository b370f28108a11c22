"""The same history over every kind of client: of redis-py or valkey-py, blocking or asyncio, one node or more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from support.client_kinds import ALL, KINDS, SOME, Chat, Connection, Kind, Place, started
from support.clusters import ClusterServer
from support.identity import bind
from support.keyspace import raw
from support.slot_moves import moving
from torpor.history.adapters.messages import encode_message
from torpor.history.protocol import (
    ClientMismatch,
    Compression,
    Expiry,
    OwnerMismatch,
    PurgeTarget,
    RedisMemoryFull,
    RedisRefused,
    RedisUnavailable,
    SessionHeld,
    SessionNotFound,
    SessionPurged,
    SessionStore,
    Status,
    TranscriptChanged,
)
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.session_archive import SessionArchive

pytestmark = [pytest.mark.slow, pytest.mark.single_node(reason="these tests start servers of every kind themselves")]

ODD: list[BaseMessage] = [
    HumanMessage("Grüße 😀 \u2028 \x00 \ud83d"),
    HumanMessage("*3\r\n$5\r\n+OK\r\n_\r\n,nan\r\n"),
    AIMessage(
        "", tool_calls=[{"name": "look", "args": {"ü": [2**70, -(2**63), 1e300]}, "id": "1", "type": "tool_call"}]
    ),
    ToolMessage("\N{BELL}", tool_call_id="1", artifact={"none": None, "numbers": [nan, inf, -inf, 0.1]}),
    SystemMessage([{"type": "text", "text": "'\"\\"}]),
]
TURN: list[BaseMessage] = [HumanMessage("one"), AIMessage("two"), HumanMessage("three")]


def written(messages: list[BaseMessage]) -> list[bytes]:
    """Messages as they are compared: NaN is not equal to itself."""
    return list(map(encode_message, messages))


def numbered(count: int) -> list[BaseMessage]:
    return [HumanMessage(str(number)) for number in range(count)]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """The servers, each started when it is first needed."""
    folder = tmp_path_factory.mktemp("places")
    running: dict[str, Place] = {}
    with ExitStack() as stack:

        def found(name: str) -> Place:
            if name not in running:
                running[name] = stack.enter_context(started(name, folder / name))
            return running[name]

        yield found


@pytest.fixture
def connection(place: Callable[[str], Place], request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A client of the kind that the test names, and an empty server."""
    kind, replies = request.param
    there = place(kind.place)
    for node in there.nodes:
        with node.client() as admin:
            admin.flushall()
    connected = Connection(kind, there.port, **replies)
    yield connected
    connected.close()


@pytest.fixture
def chat(connection: Connection) -> Chat:
    return connection.chat()


@pytest.fixture
def admin(connection: Connection, place: Callable[[str], Place]) -> Iterator[Any]:
    """redis-py's blocking client of the same server."""
    with place(connection.kind.place).server.client() as client:
        yield client


@pytest.fixture
def services(admin: Any, scratch: Path) -> Services:
    archive = open_archive((scratch / "archive").as_uri())
    connected = Services(Settings(archive_url=archive.url), SessionStore(admin), archive)
    bind(connected)
    return connected


def names(cases: list[tuple[Kind, dict[str, Any]]]) -> list[str]:
    return [
        f"{kind}-{'str' if replies['decode_responses'] else 'bytes'}-resp{replies['protocol']}"
        for kind, replies in cases
    ]


def every(cases: list[tuple[Kind, dict[str, Any]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("connection", cases, ids=names(cases), indirect=True)


every_client = every(ALL)
every_kind = every(SOME)
every_cluster_client = every([case for case in ALL if case[0].place == "cluster"])
every_asyncio_kind = every([case for case in SOME if case[0].asynchronous])


# What every client does, in each way that it can read replies


@every_client
def test_a_transcript_comes_back_as_it_was_written_whatever_is_in_it(connection: Connection, chat: Chat) -> None:
    chat.add_messages(ODD[:2])
    chat.add_messages(ODD[2:])
    assert written(chat.messages) == written(ODD)
    assert written(connection.chat("s").messages) == written(ODD)
    assert len(chat) == len(ODD)
    assert connection.chat("other").messages == []


@every_client
def test_a_session_is_described_prolonged_closed_held_and_cleared(connection: Connection) -> None:
    chat = connection.chat("ü", ttl=60, max_age=600, archive_retention=6_000, owner="änn")
    assert chat.info() is None
    chat.add_messages(TURN)
    told = chat.info()
    assert (told.session_id, told.owner, told.message_count, told.status) == ("ü", "änn", 3, Status.LIVE)
    assert told.expiry == Expiry(timedelta(minutes=1), timedelta(minutes=10), timedelta(minutes=100))
    chat.set_expiry(ttl=90, max_age=None)
    assert chat.info().expiry == Expiry(timedelta(seconds=90), None, timedelta(minutes=100))
    assert chat.close() is True
    assert chat.info().status is Status.DUE
    chat.hold("case 7 ⚖")
    assert chat.info().hold.reason == "case 7 ⚖"
    with pytest.raises(SessionHeld, match="case 7 ⚖"):
        chat.clear()
    assert chat.release_hold() is True
    assert chat.release_hold() is False
    chat.clear()
    assert chat.messages == []
    assert chat.info().owner == "änn"


@every_client
def test_a_part_of_a_session_is_read_from_either_end(chat: Chat) -> None:
    messages = numbered(7)
    chat.add_messages(messages)
    assert chat.last(2) == messages[5:]
    assert chat.last(10) == messages
    assert chat.pages(3) == [messages[:3], messages[3:6], messages[6:]]
    assert chat.pages(3, newest_first=True) == [messages[4:], messages[1:4], messages[:1]]
    assert len(chat) == 7


# What every kind of client does


@every_kind
def test_pages_of_a_session_that_is_cleared_on_the_way_are_not_mixed(connection: Connection, admin: Any) -> None:
    chat = connection.chat()
    chat.add_messages(numbered(4))
    other = SessionStore(admin)

    def clear() -> None:
        other.clear("s")
        other.append("s", written(numbered(9)))

    if connection.kind.asynchronous:

        async def read() -> None:
            async for _ in chat.history.apages(2):
                clear()

        reading: Callable[[], Any] = partial(connection.wait, read())
    else:

        def reading() -> None:
            for _ in chat.history.pages(2):
                clear()

    with pytest.raises(TranscriptChanged):
        reading()


@every_client
def test_a_session_is_read_as_before_while_its_messages_are_given_another_form(
    connection: Connection, chat: Chat, admin: Any
) -> None:
    said: list[BaseMessage] = [HumanMessage(f"Could you please tell me where my package {n} is?") for n in range(9)]
    chat.add_messages(said)
    store = SessionStore(admin if connection.kind.asynchronous else connection.client)
    store.repack("s", Compression.NONE)
    for how in (Compression.ZSTD, Compression.NONE):
        done = store.repack("s", how)
        assert (done.messages, done.damaged, done.changed) == (9, 0, False)
        assert (done.bytes_after < done.bytes_before) is (how is Compression.ZSTD)
        assert written(chat.messages) == written(said)
        assert store.repack("s", how).messages == 0


@every_kind
def test_a_server_that_has_lost_its_scripts_is_sent_them_again(
    connection: Connection, chat: Chat, place: Callable[[str], Place]
) -> None:
    chat.add_messages(TURN)
    for node in place(connection.kind.place).nodes:
        with node.client() as admin:
            raw(admin, "SCRIPT", "FLUSH")
    chat.add_messages(TURN)
    assert chat.messages == TURN * 2


@every_kind
def test_what_redis_refuses_is_told(connection: Connection, chat: Chat, admin: Any) -> None:
    chat.add_messages(TURN)
    with pytest.raises(OwnerMismatch):
        connection.chat(owner="bob").add_messages(TURN)
    with pytest.raises(SessionNotFound):
        connection.chat("other").set_expiry(ttl=60)
    [key] = raw(admin, "KEYS", "*:m:s")
    admin.delete(key)
    admin.set(key, "not a list")
    for refused in (lambda: chat.messages, lambda: chat.add_messages(TURN)):
        with pytest.raises(RedisRefused, match="WRONGTYPE"):
            refused()


@every_kind
def test_a_purged_session_refuses_late_writes(connection: Connection, chat: Chat, services: Services) -> None:
    chat.add_messages(TURN)
    services.sessions.purge([PurgeTarget("s", "ann")], "p", tombstone=timedelta(hours=1))
    assert chat.messages == []
    with pytest.raises(SessionPurged):
        chat.add_messages(TURN)
    connection.chat(allow_reuse=True).add_messages(TURN)
    assert chat.messages == TURN


@every_kind
def test_a_redis_at_its_memory_limit_refuses_a_turn_as_a_whole(
    connection: Connection, chat: Chat, place: Callable[[str], Place]
) -> None:
    chat.add_messages(TURN)
    nodes = place(connection.kind.place).nodes
    try:
        for node in nodes:
            with node.client() as admin:
                admin.config_set("maxmemory", 1)
        with pytest.raises(RedisMemoryFull):
            chat.add_messages(TURN)
        assert chat.messages == TURN
    finally:
        for node in nodes:
            with node.client() as admin:
                admin.config_set("maxmemory", 0)
    chat.add_messages(TURN)
    assert chat.messages == TURN * 2


@pytest.mark.parametrize("name", ["node", "cluster", "sentinel"])
def test_a_server_that_is_down_is_unavailable(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torpor.history.clients.resending.PAUSES_SECONDS", (0.01,))
    with ExitStack() as stack:
        server = stack.enter_context(started(name, tmp_path / name, primaries=1))
        connections = [Connection(kind, server.port, **kind.no_retry) for kind in KINDS if kind.place == name]
        for connection in connections:
            stack.callback(connection.close)
            connection.chat().add_messages(TURN)
        for node in server.nodes:
            node.stop()
        for chat in (connection.chat() for connection in connections):
            for act in (partial(getattr, chat, "messages"), partial(chat.add_messages, TURN), chat.info, chat.clear):
                with pytest.raises(RedisUnavailable):
                    act()


@every_kind
def test_a_blocking_call_with_an_asyncio_client_says_so_and_sends_nothing(
    connection: Connection, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not connection.kind.asynchronous:
        return
    sent: list[Any] = []
    monkeypatch.setattr(connection.client, "execute_command", lambda *args, **_: sent.append(args))
    history = chat.history
    for act in (
        lambda: history.messages,
        partial(history.add_messages, TURN),
        partial(history.add_user_message, "one"),
        partial(history.last, 1),
        lambda: len(history),
        history.info,
        partial(history.set_expiry, ttl=60),
        history.close,
        history.clear,
        partial(history.hold, "case 7"),
        history.release_hold,
        history.pages,
        lambda: str(history),
    ):
        with pytest.raises(ClientMismatch, match=r"asyncio client: await aget_messages"):
            act()
    assert sent == []


@every_kind
def test_turns_that_are_written_at_the_same_time_are_each_kept_together(connection: Connection) -> None:
    turns = [[HumanMessage(f"{writer} {part}") for part in range(3)] for writer in range(24)]
    connection.at_once([partial(connection.chat().act, "add_messages", turn) for turn in turns])
    found = [message.text for message in connection.chat().messages]
    kept = [found[start : start + 3] for start in range(0, len(found), 3)]
    assert sorted(kept) == sorted([message.text for message in turn] for turn in turns)


@every_kind
def test_a_sleeping_session_wakes_up_when_it_is_read(connection: Connection, services: Services) -> None:
    asleep = connection.chat(ttl=60, owner="ann")
    asleep.add_messages(ODD)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert asleep.messages == []
    asleep.add_messages(TURN)
    chat = connection.chat(archive=SessionArchive(services.archive.url))
    assert written(chat.messages) == written(ODD + TURN)
    assert len(asleep) == len(ODD + TURN)
    assert (chat.info().owner, chat.info().complete) == ("ann", True)


@every_kind
def test_a_session_that_nobody_knows_is_asked_for_in_the_archive_and_stays_usable(
    connection: Connection, services: Services
) -> None:
    chat = connection.chat("new", archive=SessionArchive(services.archive.url))
    assert chat.messages == []
    assert len(chat) == 0
    chat.add_messages(TURN)
    assert chat.messages == TURN
    assert chat.last(1) == TURN[-1:]


@every_cluster_client
def test_a_client_of_a_cluster_follows_a_slot_that_moves(
    connection: Connection, chat: Chat, place: Callable[[str], Place], request: pytest.FixtureRequest
) -> None:
    if "valkey" in request.node.name and "resp3" in request.node.name:
        # Its parser for RESP3 does not know the errors that a Cluster redirects by.
        request.applymarker(pytest.mark.xfail(raises=RedisUnavailable, reason="valkey-py 6.2 follows with RESP2 only"))
    chat.add_messages(ODD)
    cluster = place("cluster").server
    assert isinstance(cluster, ClusterServer)
    with cluster.client() as admin:
        [key] = raw(admin, "KEYS", "*:m:s")
        slot = raw(admin, "CLUSTER KEYSLOT", key)
    with moving(cluster, slot) as move:
        move.send_all()
        assert written(chat.messages) == written(ODD)
    chat.add_messages(TURN)
    assert written(connection.chat().messages) == written(ODD + TURN)


@every_asyncio_kind
def test_an_asyncio_client_stays_usable_though_calls_are_cancelled(
    connection: Connection, place: Callable[[str], Place]
) -> None:
    chats = [connection.chat(f"s{number}") for number in range(8)]
    for number, chat in enumerate(chats):
        chat.add_messages([HumanMessage(f"of {number}")])
    nodes = place(connection.kind.place).nodes

    async def cancel_all() -> None:
        with ExitStack() as stack:
            admins = [stack.enter_context(node.client()) for node in nodes]
            for admin in admins:
                raw(admin, "CLIENT", "PAUSE", 60_000, "WRITE")
            calls = [asyncio.create_task(chat.history.aget_messages()) for chat in chats]
            blocked = 0
            while blocked < len(calls):
                # Python 3.11's wait_for forgets a cancellation that comes just as a command has been sent.
                await asyncio.sleep(0.02)
                blocked = sum(raw(admin, "CLIENT", "LIST").count(b" flags=b ") for admin in admins)
            await asyncio.sleep(0.02)
            for call in calls:
                call.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            for admin in admins:
                raw(admin, "CLIENT", "UNPAUSE")

    connection.wait(cancel_all())
    for _ in range(3):  # over all the connections that the pool has
        found = connection.at_once([partial(chat.act, "get_messages") for chat in chats])
        assert found == [[HumanMessage(f"of {number}")] for number in range(8)]


@every_kind
def test_asyncio_methods_work_with_every_client(connection: Connection, chat: Chat) -> None:
    history = chat.history

    async def use() -> None:
        await history.aadd_messages(TURN)
        assert await history.aget_messages() == TURN
        assert await history.alast(1) == TURN[-1:]
        assert await history.alen() == len(TURN)
        assert [page async for page in history.apages(2)] == [TURN[:2], TURN[2:]]
        await history.aset_expiry(ttl=60)
        info = await history.ainfo()
        assert info
        assert info.idle_timeout == timedelta(seconds=60)
        await history.ahold("case 7")
        with pytest.raises(SessionHeld):
            await history.aclear()
        assert await history.arelease_hold()
        assert await history.aclose()
        await history.aclear()
        assert await history.aget_messages() == []

    connection.wait(use())
