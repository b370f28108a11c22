"""Messages above the limits of size and depth: refused when they are written, and read if they are there already."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.command import Torpor
from support.foreign import LAYOUTS, Foreign
from support.identity import bind
from support.keyspace import dump, raw
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory, MemorystoreSession
from torpor.history.protocol import (
    MAX_MESSAGE_BYTES,
    InvalidArgument,
    MessageNotSerializable,
    MessageTooLarge,
    NotAdoptable,
    SessionStore,
    TorporError,
)
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

Write = Callable[[Any], object]


def nested(levels: int) -> Any:
    value: Any = "inside"
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.fixture(params=["chat", "agents"])
def write(request: pytest.FixtureRequest, client: redis.Redis, redis_server: RedisServer) -> Write:
    """Writes a turn of two messages, the second of which has this value; at most 2,000 bytes each."""
    if request.param == "chat":
        chat = MemorystoreChatMessageHistory(client, "s", max_message_bytes=2_000)
        return lambda value: chat.add_messages([HumanMessage("a"), AIMessage("b", additional_kwargs={"a": value})])

    async def add(value: Any) -> None:
        async with redis_server.asyncio_client() as connected:
            items: Any = [{"role": "user", "content": "a"}, {"role": "assistant", "content": value}]
            await MemorystoreSession(connected, "s", max_message_bytes=2_000).add_items(items)

    return lambda value: asyncio.run(add(value))


REFUSED: list[tuple[Any, type[TorporError], str]] = [
    ("x" * 2_001, MessageTooLarge, r"message 1 of the turn has 2,0\d\d bytes; 2,000 is the limit"),
    (nested(200), MessageNotSerializable, r"nested 20\d levels deep; 200 is the limit"),
    (nested(100_000), MessageNotSerializable, "200 levels, the limit"),
]


@pytest.mark.parametrize(("value", "error", "says"), REFUSED, ids=["large", "deep", "very deep"])
def test_a_message_above_a_limit_is_refused_with_its_turn(
    write: Write, client: redis.Redis, value: Any, error: type[TorporError], says: str
) -> None:
    with pytest.raises(error, match=says):
        write(value)
    assert dump(client).keys() <= {b"torpor:config"}
    write("short")
    assert SessionStore(client).info("s").message_count == 2  # type: ignore[union-attr]


def test_a_message_of_16_mib_is_the_largest_unless_another_limit_is_given(client: redis.Redis) -> None:
    chat = MemorystoreChatMessageHistory(client, "s")
    with pytest.raises(MessageTooLarge, match="16,777,216 is the limit"):
        chat.add_messages([HumanMessage("x" * MAX_MESSAGE_BYTES)])
    MemorystoreChatMessageHistory(client, "s", max_message_bytes=2 * MAX_MESSAGE_BYTES).add_messages(
        [HumanMessage("x" * MAX_MESSAGE_BYTES)]
    )
    assert len(chat.messages[0].content) == MAX_MESSAGE_BYTES


@pytest.mark.parametrize("limit", [0, True, "16", 2**30])
def test_a_bad_limit_is_refused(client: redis.Redis, limit: Any) -> None:
    with pytest.raises(InvalidArgument, match="max_message_bytes"):
        MemorystoreChatMessageHistory(client, "s", max_message_bytes=limit)


OLD = {
    "large": b'{"type":"human","data":{"content":"%b"}}' % (b"x" * (MAX_MESSAGE_BYTES + 1_000_000)),
    "deep": b'{"type":"human","data":{"content":"old","additional_kwargs":%b}}' % (b'{"a":' * 400 + b"1" + b"}" * 400),
}


@pytest.mark.parametrize("kind", OLD)
def test_a_message_that_an_older_version_wrote_above_a_limit_sleeps_wakes_and_is_read(
    services: Services, client: redis.Redis, kind: str
) -> None:
    services.sessions.append("s", [b'{"type":"human","data":{"content":"before"}}'])
    [key] = raw(client, "KEYS", "*:m:s")
    raw(client, "RPUSH", key, OLD[kind])
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert restore_session(services, "s").messages == 2
    assert services.sessions.messages("s")[1] == OLD[kind]
    assert len(MemorystoreChatMessageHistory(client, "s").messages) == 2


# Adoption


def too_deep(layout: str, client: redis.Redis) -> Foreign:
    """A session of another library whose second message LangChain can read, and our reader can't."""
    theirs = Foreign(client, LAYOUTS[layout])
    theirs.add("one")
    deep = b'{"type":"human","data":{"content":"two","additional_kwargs":%b}}' % (
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    )
    raw(client, "LPUSH" if theirs.layout.newest_first else "RPUSH", theirs.key, deep)
    theirs.add("three")
    return theirs


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_message_that_is_nested_too_deep_is_adopted_as_it_is(
    services: Services, client: redis.Redis, torpor: Torpor, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = too_deep(layout, client)
    elements = theirs.elements
    chat = MemorystoreChatMessageHistory(client, "s", adopt=layout)
    assert [message.content for message in chat.messages] == ["one", "three"]
    assert "message 1 can't be read and is left out" in caplog.text
    assert services.sessions.messages("s") == elements
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert restore_session(services, "s").messages == 3
    assert services.sessions.messages("s") == elements
    done = torpor("doctor")
    assert (done.code, "message 1; 1 of 3" in done.out) == (1, True), done


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dry_run_shows_a_session_that_is_nested_too_deep(client: redis.Redis, torpor: Torpor, layout: str) -> None:
    theirs = too_deep(layout, client)
    raw(client, "LTRIM", theirs.key, 1, 1)  # the deep one alone
    for options in ([], ["--json"]):
        done = torpor("adopt", "--match", "*", "--format", layout, "--dry-run", *options)
        assert done.code == 0, done
        assert "600,0" in done.out, done


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_list_with_a_message_above_the_limit_is_not_adopted(client: redis.Redis, layout: str) -> None:
    theirs = Foreign(client, LAYOUTS[layout])
    theirs.add("a", "x" * 2_000, "b")
    before = dump(client)
    chat = MemorystoreChatMessageHistory(client, "s", adopt=layout, max_message_bytes=1_000)
    with pytest.raises(NotAdoptable, match="message 1: a message has more than 1,000 bytes"):
        _ = chat.messages
    assert {key: value for key, value in dump(client).items() if key != b"torpor:config"} == before
    assert len(MemorystoreChatMessageHistory(client, "s", adopt=layout, max_message_bytes=3_000).messages) == 3


# Import


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"session_id": "b", "messages": [{"type": "human", "content": "x" * 2_000}]}, "message 0 has 2,0"),
        (
            {"session_id": "b", "messages": [{"type": "ai", "content": "", "additional_kwargs": nested(250)}]},
            "too deep",
        ),
    ],
    ids=["large", "deep"],
)
def test_a_file_with_a_message_above_a_limit_is_refused_before_anything_is_written(
    client: redis.Redis, torpor: Torpor, tmp_path: Path, line: Any, says: str
) -> None:
    file = tmp_path / "in.jsonl"
    sound = {"session_id": "a", "messages": [{"type": "human", "content": "hi"}]}
    file.write_text(json.dumps(sound) + "\n" + json.dumps(line) + "\n")
    for options in ([], ["--dry-run"]):
        done = torpor("import", str(file), *options, MAX_MESSAGE_BYTES="2000")
        assert (done.code, "line 2" in done.err, says in done.said) == (2, True, True), done
    assert dump(client).keys() <= {b"torpor:config"}


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_an_export_of_what_was_written_before_there_was_a_depth_is_imported(
    services: Services, client: redis.Redis, torpor: Torpor, tmp_path: Path
) -> None:
    file = tmp_path / "out.jsonl"
    services.sessions.append("s", [OLD["deep"]], max_depth=None)
    assert torpor("export", "s", "-o", str(file)).code == 0
    client.flushall()
    bind(services)
    assert torpor("import", str(file)).code == 0
    assert services.sessions.messages("s") == [OLD["deep"]]
