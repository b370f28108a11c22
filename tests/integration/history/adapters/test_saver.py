"""What is Torpor's own in its saver: round trips, growth, kinds of sessions, serializers, sleep, and refusals."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
import redis
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import INTERRUPT, RESUME
from langgraph.graph import END, START, StateGraph

from support.graphs import begin, resume
from support.keyspace import lasting_keys, raw
from support.paths import ROOT
from support.savers import checkpoint, config
from support.transcripts import read_transcript
from support.watched_clients import WatchedRedis
from torpor import MemorystoreChatMessageHistory, MemorystoreSaver
from torpor.history.calls import KnownPlaces
from torpor.history.protocol import (
    ClientMismatch,
    InvalidArgument,
    InvalidOwner,
    KindMismatch,
    MessageCorrupt,
    MessageTooLarge,
    OwnerMismatch,
    SessionExists,
    SessionHeld,
    SessionIncomplete,
    SessionKind,
    SessionNotFound,
    SessionStore,
)
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.session_archive import SessionArchive

METADATA: Any = {"source": "loop", "step": 1, "parents": {}}


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.fixture
def session_archive(services: Services) -> SessionArchive:
    return SessionArchive(services.archive.url)


@pytest.fixture
def saver(client: redis.Redis, session_archive: SessionArchive) -> MemorystoreSaver:
    return MemorystoreSaver(client, archive=session_archive)


def sleep(services: Services, thread: str = "s") -> None:
    assert archive_session(services, thread).outcome is Outcome.ARCHIVED


class Conversed:
    """A thread with one more message at each turn, as a graph would write it."""

    def __init__(self, saver: MemorystoreSaver, thread: str = "s", *, size: int = 300) -> None:
        self.saver = saver
        self.where = config(thread)
        self.messages: list[Any] = []
        self.versions: dict[str, Any] = {}
        self._size = size

    def turn(self) -> Any:
        number = len(self.messages)
        text = f"message {number} ".ljust(self._size, "x")
        self.messages = [*self.messages, HumanMessage(text) if number % 2 else AIMessage(text)]
        self.versions = {"messages": self.saver.get_next_version(self.versions.get("messages"), None)}
        made = checkpoint({"messages": self.messages}, self.versions)
        self.where = self.saver.put(self.where, made, METADATA, dict(self.versions))
        self.saver.put_writes(self.where, [("messages", [self.messages[-1]])], f"task {number}", "~pull, model")
        return self.where

    def turns(self, count: int) -> Conversed:
        for _ in range(count):
            self.turn()
        return self


def read(saver: MemorystoreSaver, where: Any = None) -> Any:
    found = saver.get_tuple(where or config())
    assert found is not None
    return found.checkpoint["channel_values"].get("messages")


def elements(sessions: SessionStore, thread: str = "s") -> list[bytes]:
    return sessions.messages(thread, touch=False)


# Round trips and growth


def test_each_operation_is_one_round_trip(watched: WatchedRedis) -> None:
    saver = MemorystoreSaver(watched)
    thread = Conversed(saver).turns(2)
    saver.get_tuple(thread.where)
    watched.commands.clear()
    acts: list[Callable[[], Any]] = [thread.turn, lambda: saver.get_tuple(thread.where), lambda: read(saver)]
    for act in acts:
        act()
    assert watched.commands == ["EVALSHA"] * 4  # a turn puts a checkpoint and writes


def test_a_thread_grows_with_its_turns_and_not_with_their_square(
    saver: MemorystoreSaver, sessions: SessionStore
) -> None:
    thread = Conversed(saver).turns(100)
    half = sum(map(len, elements(sessions)))
    thread.turns(100)
    assert sum(map(len, elements(sessions))) < 2.05 * half
    assert read(saver) == thread.messages
    assert len(elements(sessions)) == 400


def test_a_process_that_begins_anew_goes_on_with_what_it_has_read(
    client: redis.Redis, saver: MemorystoreSaver, sessions: SessionStore
) -> None:
    thread = Conversed(saver).turns(50)
    before = elements(sessions)
    thread.saver = MemorystoreSaver(client)
    assert read(thread.saver) == thread.messages
    thread.turn()
    [put, _] = elements(sessions)[len(before) :]
    assert len(put) < 1_500


def test_a_read_is_sent_no_more_than_what_was_added_to_the_known_values(
    client: redis.Redis, saver: MemorystoreSaver, sessions: SessionStore
) -> None:
    thread = Conversed(saver).turns(20)
    before = sessions.read_checkpoint("s", "", None, touch=False)
    known = KnownPlaces(before.state, before.length, [(7, 1), (before.position or 0, 0)])
    assert sessions.read_checkpoint("s", "", None, touch=False, known=known).parts == [[2]]
    thread.turn()
    thread.turn()
    after = sessions.read_checkpoint("s", "", None, touch=False, known=known)
    [[part, rest]] = after.parts
    assert (len(bytes(part)) < 500, rest) == (True, 2)
    assert read(MemorystoreSaver(client)) == read(saver) == thread.messages
    over = [replace(known, state="1:0"), replace(known, length=after.length + 1)]
    for other in over:
        [parts] = sessions.read_checkpoint("s", "", None, touch=False, known=other).parts
        assert len(parts) == 21


def test_places_in_records_that_redis_has_lost_are_not_used(saver: MemorystoreSaver, client: redis.Redis) -> None:
    """A replica that lacked the last writes was promoted."""
    thread = Conversed(saver).turns(3)
    [messages] = raw(client, "KEYS", "*:m:s")
    raw(client, "RPOP", messages)
    raw(client, "RPOP", messages)
    assert read(saver) == thread.messages[:-1]
    thread = Conversed(saver, "t").turns(3)
    [messages] = raw(client, "KEYS", "*:m:t")
    raw(client, "RPOP", messages)
    raw(client, "RPOP", messages)
    thread.turn()
    assert read(MemorystoreSaver(client), thread.where) == thread.messages


def test_a_value_that_has_not_changed_is_not_sent_again_whatever_its_type(
    saver: MemorystoreSaver, sessions: SessionStore
) -> None:
    values = {"notes": {"text": "n" * 5_000}, "list": ["l" * 5_000]}
    versions = {name: saver.get_next_version(None, None) for name in values}
    where = saver.put(config(), checkpoint(values, versions), METADATA, dict(versions))
    where = saver.put(where, checkpoint(values, versions), METADATA, {})
    assert len(elements(sessions)[1]) < 1_000
    found = saver.get_tuple(where)
    assert found is not None
    assert found.checkpoint["channel_values"] == values


def test_versions_counted_by_somebody_else_are_not_believed(saver: MemorystoreSaver) -> None:
    """Two forks have different values of the same version, as savers that only count give them."""
    root = saver.put(config(), checkpoint({}, {}), METADATA, {})
    forks = []
    for text in ("left", "right"):
        values = {"messages": [text * 100]}
        forks.append(saver.put(root, checkpoint(values, {"messages": 2}), METADATA, {"messages": 2}))
    after = saver.put(forks[0], checkpoint({"messages": ["left" * 100]}, {"messages": 2}), METADATA, {})
    assert [read(saver, each) for each in (*forks, after)] == [["left" * 100], ["right" * 100], ["left" * 100]]


@pytest.mark.parametrize("current", [None, 7, 5 << 24, "00000000000000000000000000000007.0.5"])
def test_each_version_is_above_the_one_before_and_no_other_fork_has_it(saver: MemorystoreSaver, current: Any) -> None:
    first, second = (saver.get_next_version(current, None) for _ in range(2))
    assert first != second
    assert current is None or first > current


# The index, which is derived from the list


@pytest.mark.parametrize("lost", ["the index", "its state", "an entry", "its form, as the former version had it"])
def test_an_index_that_was_lost_is_made_anew(saver: MemorystoreSaver, client: redis.Redis, lost: str) -> None:
    thread = Conversed(saver).turns(3)
    [index] = raw(client, "KEYS", "*:i:s")
    earlier = thread.where
    if lost == "the index":
        raw(client, "DEL", index)
    elif lost.startswith("its form"):
        state = raw(client, "HGET", index, ".")
        raw(client, "DEL", index)
        raw(client, "HSET", index, ".", state.removeprefix(b"2:"), "l", thread.where["configurable"]["checkpoint_id"])
    else:
        raw(client, "HSET", index, ".", "1:0:1")
        raw(client, "HDEL", index, "l")
    thread.turn()
    assert read(saver) == thread.messages
    found = saver.get_tuple(thread.where)
    assert found is not None
    assert [write[2] for write in found.pending_writes or []] == [[thread.messages[-1]]]
    assert read(saver, earlier) == thread.messages[:-1]


def test_ids_that_differ_in_their_dashes_alone_are_different_checkpoints(saver: MemorystoreSaver) -> None:
    dashed = "1f0bd8f2-65a1-6c5e-8001-0f6a5c0e9b1d"
    ids = [dashed, dashed.replace("-", ""), f"{dashed[1:8]}-{dashed[8:]}", "short", f"-{dashed[1:]}"]
    for checkpoint_id, ns in product(ids, ["", "inner", dashed]):
        made = checkpoint({"name": [checkpoint_id, ns]}, {"name": 1}, id=checkpoint_id)
        saver.put(config(ns=ns), made, METADATA, {"name": 1})
    for checkpoint_id, ns in product(ids, ["", "inner", dashed]):
        found = saver.get_tuple(config(ns=ns, checkpoint_id=checkpoint_id))
        assert found is not None
        assert found.checkpoint["channel_values"]["name"] == [checkpoint_id, ns]


def test_a_deleted_thread_leaves_no_key_behind(
    saver: MemorystoreSaver, services: Services, client: redis.Redis
) -> None:
    Conversed(saver).turns(3)
    sleep(services)
    Conversed(saver).turns(3)
    saver.delete_thread("s")
    assert saver.get_tuple(config()) is None
    assert archive_session(services, "s").outcome is not Outcome.FAILED
    archive_session(services, "s")
    left = {key for key in lasting_keys(client) if key.endswith(b":s") or b":i:" in key}
    assert left == set()
    assert list(saver.list(config())) == []


# Chats and threads


def test_a_chat_and_a_thread_of_the_same_id_are_refused_and_nothing_is_changed(
    client: redis.Redis, saver: MemorystoreSaver, sessions: SessionStore
) -> None:
    chat = MemorystoreChatMessageHistory(client, "chat")
    chat.add_user_message("hello")
    thread = Conversed(saver, "thread").turns(1)
    before = elements(sessions, "chat"), elements(sessions, "thread")
    with pytest.raises(KindMismatch, match="chat"):
        saver.put(config("chat"), checkpoint({}, {}), METADATA, {})
    with pytest.raises(KindMismatch, match="chat"):
        saver.put_writes(config("chat", checkpoint_id="1"), [("a", 1)], "task")
    for act in (lambda: saver.get_tuple(config("chat")), lambda: list(saver.list(config("chat")))):
        with pytest.raises(KindMismatch, match="chat"):
            act()
    history = MemorystoreChatMessageHistory(client, "thread")
    with pytest.raises(KindMismatch, match="thread"):
        history.add_user_message("hello")
    with pytest.raises(KindMismatch, match="thread"):
        _ = history.messages
    with pytest.raises(KindMismatch):
        saver.copy_thread("chat", "new")
    assert (elements(sessions, "chat"), elements(sessions, "thread")) == before
    assert read(MemorystoreSaver(client), thread.where) == thread.messages
    kinds = [info.kind for each in ("chat", "thread") if (info := sessions.info(each))]
    assert kinds == [SessionKind.CHAT, SessionKind.THREAD]


def test_a_chat_that_was_written_to_a_sleeping_thread_is_not_mixed_with_it(
    client: redis.Redis,
    saver: MemorystoreSaver,
    services: Services,
    sessions: SessionStore,
    session_archive: SessionArchive,
) -> None:
    Conversed(saver).turns(2)
    asleep = elements(sessions)
    sleep(services)
    MemorystoreChatMessageHistory(client, "s").add_user_message("hello")
    for act in (
        lambda: saver.get_tuple(config()),
        lambda: MemorystoreChatMessageHistory(client, "s", archive=session_archive).messages,
    ):
        with pytest.raises(KindMismatch):
            act()
    assert len(elements(sessions)) == 1
    assert read_transcript(services, "s")[:-1] == asleep


# Sleep


def test_a_thread_that_slept_while_a_node_worked_loses_nothing(
    client: redis.Redis, services: Services, session_archive: SessionArchive
) -> None:
    """The saver still knows where the values were, and the thread has fallen asleep since."""
    saver = MemorystoreSaver(client, archive=session_archive)
    thread = Conversed(saver).turns(5)
    sleep(services)
    thread.turn()
    assert read(saver) == thread.messages
    assert [len(each.checkpoint["channel_values"]["messages"]) for each in saver.list(config())] == [6, 5, 4, 3, 2, 1]
    sleep(services)
    thread.turn()
    sleep(services)
    assert read(MemorystoreSaver(client, archive=session_archive)) == thread.messages


def test_a_list_wakes_a_thread_and_so_do_a_copy_and_a_pruning(saver: MemorystoreSaver, services: Services) -> None:
    Conversed(saver).turns(3)
    sleep(services)
    assert len(list(saver.list(config()))) == 3
    sleep(services)
    saver.copy_thread("s", "copy")
    assert len(list(saver.list(config("copy")))) == 3
    sleep(services)
    saver.prune(["s"])
    assert len(list(saver.list(config()))) == 1


def test_a_pruned_thread_stays_pruned_when_it_has_slept_again(saver: MemorystoreSaver, services: Services) -> None:
    thread = Conversed(saver).turns(4)
    sleep(services)
    saver.prune(["s"])
    archive_session(services, "s")  # erases what the archive had
    thread.turn()
    sleep(services)
    assert next(iter(saver.list(config()))).config == thread.where
    assert len(list(saver.list(config()))) == 2
    assert read(saver) == thread.messages


def test_without_an_archive_only_a_thread_that_is_known_to_be_complete_is_pruned(client: redis.Redis) -> None:
    saver = MemorystoreSaver(client)
    Conversed(saver).turns(2)
    with pytest.raises(SessionIncomplete, match="archive="):
        saver.prune(["s"])
    assert len(list(saver.list(config()))) == 2


def test_an_interrupted_thread_is_due_sooner_until_it_is_used_again(
    client: redis.Redis, sessions: SessionStore
) -> None:
    saver = MemorystoreSaver(client, ttl=3600, interrupted_ttl=60)
    where = Conversed(saver).turn()

    def idle_seconds() -> float:
        info = sessions.info("s")
        assert info is not None
        assert info.due_at is not None
        return (info.due_at - info.last_active).total_seconds()

    assert idle_seconds() == 3600
    saver.put_writes(where, [(INTERRUPT, ["approve?"])], "task")
    assert idle_seconds() == 60
    saver.put_writes(where, [("messages", ["of another branch"])], "another task")
    assert idle_seconds() == 60
    read(saver)
    assert idle_seconds() == 3600
    saver.put_writes(where, [("messages", ["of a third one"])], "third task")
    assert idle_seconds() == 60
    saver.put_writes(where, [(RESUME, ["yes"])], "task")
    assert idle_seconds() == 3600
    saver.put_writes(where, [(INTERRUPT, ["again?"])], "task")
    saver.put(where, checkpoint({}, {}), METADATA, {})
    assert idle_seconds() == 3600


def test_a_checkpoint_that_comes_after_its_interrupt_does_not_end_the_waiting(
    client: redis.Redis, sessions: SessionStore
) -> None:
    """LangGraph writes checkpoints in the background."""
    saver = MemorystoreSaver(client, ttl=3600, interrupted_ttl=60)
    made = checkpoint({}, {})
    saver.put_writes(config(checkpoint_id=made["id"]), [(INTERRUPT, ["approve?"])], "task")
    saver.put(config(), made, METADATA, {})
    info = sessions.info("s")
    assert info is not None
    assert info.due_at is not None
    assert (info.due_at - info.last_active).total_seconds() == 60


def test_a_thread_under_a_legal_hold_is_neither_deleted_nor_pruned(
    saver: MemorystoreSaver, sessions: SessionStore, services: Services
) -> None:
    thread = Conversed(saver).turns(2)
    sleep(services)
    sessions.hold("s", "a dispute")
    acts: list[Callable[[], Any]] = [
        lambda: saver.delete_thread("s"),
        lambda: saver.prune(["s"]),
        lambda: saver.prune(["s"], strategy="delete"),
    ]
    for act in acts:
        with pytest.raises(SessionHeld, match="dispute"):
            act()
    assert read(saver) == thread.messages


# Owners


@pytest.mark.parametrize("asleep", [False, True])
def test_only_its_owner_uses_a_thread(
    client: redis.Redis, services: Services, sessions: SessionStore, session_archive: SessionArchive, *, asleep: bool
) -> None:
    ann = MemorystoreSaver(client, owner="ann", archive=session_archive)
    thread = Conversed(ann).turns(2)
    if asleep:
        sleep(services)
        read(ann)
    before = elements(sessions)
    acts: list[Callable[[MemorystoreSaver], Any]] = [
        lambda other: other.get_tuple(config()),
        lambda other: list(other.list(config())),
        lambda other: other.put(config(), checkpoint({}, {}), METADATA, {}),
        lambda other: other.put_writes(thread.where, [("messages", ["x"])], "task"),
        lambda other: other.copy_thread("s", "copy"),
        lambda other: other.prune(["s"]),
        lambda other: other.delete_thread("s"),
    ]
    for owner, act in product(("bob", None), acts):
        with pytest.raises(OwnerMismatch):
            act(MemorystoreSaver(client, owner=owner, archive=session_archive))
    assert elements(sessions) == before
    shared = MemorystoreSaver(client)
    assert read(shared, config(owner="ann")) == thread.messages
    newest, _ = shared.list(config(owner="ann"))
    assert read(shared, newest.parent_config) == thread.messages[:1]  # its config names the owner, too


# Serializers


class Aes:
    """A cipher for LangGraph's EncryptedSerializer."""

    def __init__(self) -> None:
        self._key = AESGCM(AESGCM.generate_key(128))

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        nonce = os.urandom(12)
        return "aes", nonce + self._key.encrypt(nonce, plaintext, None)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return self._key.decrypt(ciphertext[:12], ciphertext[12:], None)


def test_an_encrypted_thread_sleeps_and_wakes_and_nothing_of_it_can_be_read(
    client: redis.Redis, services: Services, sessions: SessionStore, session_archive: SessionArchive
) -> None:
    serde = EncryptedSerializer(Aes())
    saver = MemorystoreSaver(client, archive=session_archive, serde=serde)
    thread = Conversed(saver).turns(3)
    assert b"message 1" not in b"".join(elements(sessions))
    sleep(services)
    assert read(MemorystoreSaver(client, archive=session_archive, serde=serde)) == thread.messages
    with pytest.raises(MessageCorrupt, match=r"another serializer.*msgpack\+aes"):
        MemorystoreSaver(client, archive=session_archive).get_tuple(config())


def test_a_class_that_is_not_on_the_list_is_not_made(client: redis.Redis) -> None:
    """LangGraph's strict MessagePack, which `compile` asks the saver for with the state's own classes."""
    saver = MemorystoreSaver(client, serde=JsonPlusSerializer(allowed_msgpack_modules=[]))
    values = {"path": Path("/tmp"), "message": HumanMessage("hello")}
    saver.put(config(), checkpoint(values, dict.fromkeys(values, 1)), METADATA, dict.fromkeys(values, 1))
    allowing = saver.with_allowlist([("pathlib", "PosixPath")])
    assert isinstance(allowing, MemorystoreSaver)
    found = [each.get_tuple(config()) for each in (saver, allowing)]
    paths = [each.checkpoint["channel_values"]["path"] for each in found if each]
    assert paths[1] == Path("/tmp")
    assert found[0] is not None
    assert found[0].checkpoint["channel_values"]["message"] == HumanMessage("hello")


# Bad input


@pytest.mark.parametrize(
    ("act", "refused"),
    [
        (lambda saver: saver.get_tuple({"configurable": {}}), (InvalidArgument, "thread_id")),
        (lambda saver: saver.get_tuple({}), (InvalidArgument, "thread_id")),
        (lambda saver: saver.get_tuple(config("")), (InvalidArgument, "empty")),
        (lambda saver: saver.get_tuple(config("x" * 1_025)), (InvalidArgument, "1,024")),
        (lambda saver: saver.put_writes(config(), [("a", 1)], "task"), (InvalidArgument, "checkpoint_id")),
        (lambda saver: list(saver.list(config(), before=config("other"))), (InvalidArgument, "another")),
        (lambda saver: list(saver.list(None)), (NotImplementedError, "thread_id")),
        (lambda saver: saver.prune(["s"], strategy="oldest"), (InvalidArgument, "oldest")),
        (lambda saver: saver.delete_for_runs(["run"]), (NotImplementedError, "nothing records")),
        (lambda saver: saver.copy_thread("none", "new"), (SessionNotFound, "none")),
        (lambda saver: saver.copy_thread("s", "s"), (SessionExists, "'s'")),
        (lambda saver: saver.put(config(owner=7), checkpoint({}, {}), METADATA, {}), (InvalidOwner, "owner")),
        (
            lambda saver: saver.put(config(ns="n" * 70_000), checkpoint({}, {}), METADATA, {}),
            (InvalidArgument, "65,535"),
        ),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    saver: MemorystoreSaver,
    sessions: SessionStore,
    client: redis.Redis,
    act: Callable[[MemorystoreSaver], Any],
    refused: tuple[type[Exception], str],
) -> None:
    error, match = refused
    Conversed(saver).turn()
    before = elements(sessions), sorted(raw(client, "KEYS", "*:m:*"))
    with pytest.raises(error, match=match):
        act(saver)
    assert (elements(sessions), sorted(raw(client, "KEYS", "*:m:*"))) == before


def test_a_checkpoint_above_the_limit_is_refused(client: redis.Redis, sessions: SessionStore) -> None:
    saver = MemorystoreSaver(client, max_message_bytes=1_000)
    with pytest.raises(MessageTooLarge, match="1,000"):
        Conversed(saver, size=2_000).turn()
    assert elements(sessions) == []


def test_a_checkpoint_that_nobody_has_written_reads_as_none(saver: MemorystoreSaver) -> None:
    Conversed(saver).turn()
    assert saver.get_tuple(config(checkpoint_id="unknown")) is None
    assert saver.get_tuple(config(ns="unknown")) is None


def test_a_blocking_call_with_an_asyncio_client_is_refused() -> None:
    saver = MemorystoreSaver(redis.asyncio.Redis())
    with pytest.raises(ClientMismatch, match="aget_tuple"):
        saver.get_tuple(config())
    with pytest.raises(ClientMismatch, match="aget_tuple"):
        saver.list(config())


def test_a_record_that_leads_nowhere_is_found_and_not_read_as_a_shorter_value(
    saver: MemorystoreSaver, client: redis.Redis
) -> None:
    Conversed(saver).turns(3)
    [messages] = raw(client, "KEYS", "*:m:s")
    [index] = raw(client, "KEYS", "*:i:s")
    raw(client, "LPOP", messages)
    raw(client, "DEL", index)
    for act in (lambda: MemorystoreSaver(client).get_tuple(config()), lambda: list(saver.list(config()))):
        with pytest.raises(MessageCorrupt, match="not there"):
            act()


# Graphs


def _reduce(state: list[Any], writes: list[Any]) -> list[Any]:
    for write in writes:
        state = [*state, *(write if isinstance(write, list) else [write])]
    return state


class Delta(TypedDict):
    """A state of which only now and then a checkpoint has the value."""

    messages: Annotated[list[Any], DeltaChannel(_reduce)]


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
def test_pruning_leaves_a_delta_channel_its_value(saver: MemorystoreSaver, services: Services) -> None:
    builder = StateGraph(Delta)
    builder.add_node("model", lambda state: {"messages": [f"answer to {len(state['messages'])}"]})
    builder.add_edge(START, "model")
    builder.add_edge("model", END)
    graph = builder.compile(checkpointer=saver)
    where: Any = {"configurable": {"thread_id": "s"}}
    for turn in range(3):
        found = graph.invoke({"messages": [f"question {turn}"]}, where)
    before = len(list(saver.list(where)))
    sleep(services)
    saver.prune(["s"])
    assert 1 < len(list(saver.list(where))) <= before
    assert graph.get_state(where).values == found
    assert len(graph.invoke({"messages": ["question 3"]}, where)["messages"]) == 8


def test_a_thread_of_another_saver_is_moved_as_the_documentation_says(saver: MemorystoreSaver) -> None:
    page = (ROOT / "docs" / "langgraph.md").read_text(encoding="utf-8")
    [recipe] = re.findall(r"```python\n(def move.*?)```", page, re.DOTALL)
    known: dict[str, Any] = {}
    exec(recipe, known)
    old = InMemorySaver()
    asked = begin("parallel", old)
    known["move"](old, saver, "s")
    where: Any = {"configurable": {"thread_id": "s"}}
    assert saver.get_tuple(where) == old.get_tuple(where)
    assert [each.checkpoint for each in saver.list(where)] == [each.checkpoint for each in old.list(where)]
    assert asked == ["may I look?"]
    assert resume("parallel", saver) == resume("parallel", old)
