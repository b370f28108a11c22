"""torpor adopt --detect: which formats lie in a Redis, and the command for each."""

from __future__ import annotations

import json
import shlex

import pytest
import redis

from support.captured import LANGCHAIN_JS, LLAMAINDEX
from support.command import Torpor
from support.foreign import LAYOUTS, Foreign
from support.keyspace import dump, raw
from support.said_in_python import SAID
from torpor import MemorystoreChatMessageHistory
from torpor.history.adapters.messages import encode_message

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
ITEM = json.dumps({"role": "user", "content": "hi"})


def write(client: redis.Redis) -> None:
    """Two sessions of each Python format, one of each version of LangChain.js and LlamaIndex, three of the Agents SDK,
    and others.
    """
    for name, layout in LAYOUTS.items():
        for number in range(2):
            Foreign(client, layout, f"{name}-{number}").add(*SAID.values())
    for version in LANGCHAIN_JS:
        raw(client, "RPUSH", f"js-{version.name}", *version.session)
    for version in LLAMAINDEX:
        raw(client, "RPUSH", f"llama-{version.name}", *version.session)
    for name in ("user", "1", "user:2"):
        raw(client, "RPUSH", f"agents:session:{name}:messages", ITEM)
        raw(client, "HSET", f"agents:session:{name}", "session_id", name)
    raw(client, "RPUSH", "jobs", "a job")
    raw(client, "RPUSH", "agents:session:odd:messages", "no JSON")
    raw(client, "RPUSH", "celery", "a task")
    raw(client, "RPUSH", "returned:s", encode_message(SAID["human"]))
    MemorystoreChatMessageHistory(client, "ours").add_messages([SAID["human"]])


def test_each_format_is_told_with_its_sessions_and_its_command(client: redis.Redis, torpor: Torpor) -> None:
    write(client)
    before = dump(client)
    found = torpor("adopt", "--detect", "*", "--json")
    assert found.code == 0
    assert {each["name"]: each["sessions"] for each in found.json} == {
        "memorystore": 2,
        "community": 2,
        "langchain-js": len(LANGCHAIN_JS),
        "llamaindex": len(LLAMAINDEX),
        "openai-agents": 3,
        None: 2,
    }
    said = torpor("adopt", "--detect", "*").out.splitlines()
    assert len(said) == 6
    assert said[-1].startswith("of no known format: 2 lists, such as ")
    assert dump(client) == before
    raw(client, "DEL", "returned:s")
    before = dump(client)
    for each in found.json:
        if each["name"]:
            program, *arguments = shlex.split(each["command"])
            assert program == "torpor"
            adopted = torpor(*arguments, "--json").json
            assert adopted["sessions"] == each["sessions"], (each, adopted)
    assert dump(client) == before


def test_messages_that_do_not_tell_their_library_are_counted_for_each_that_it_may_be(
    client: redis.Redis, torpor: Torpor
) -> None:
    for number in range(2):
        raw(client, "RPUSH", f"given-back-{number}", *map(encode_message, SAID.values()))
    [version] = [each for each in LANGCHAIN_JS if each.name == "core-1.4.0"]
    raw(client, "LPUSH", "greeted", version.elements["ai"], version.elements["human"])
    told, unsure = torpor("adopt", "--detect", "*", "--json").json
    assert (told["name"], told["example"]) == ("langchain-js", "greeted")
    assert (unsure["name"], unsure["candidates"], unsure["sessions"]) == (None, ["memorystore", "langchain-js"], 2)
    said = torpor("adopt", "--detect", "*").out.splitlines()
    assert said[1].startswith("memorystore or langchain-js, the messages do not tell: 2 lists, such as given-back-")


def test_a_pattern_of_keys_becomes_one_of_session_ids(client: redis.Redis, torpor: Torpor) -> None:
    write(client)
    [found] = torpor("adopt", "--detect", "message_store:community-*", "--json").json
    assert (found["name"], found["sessions"]) == ("community", 2)
    assert found["command"] == "torpor adopt --match 'community-*' --format community --dry-run"
    assert torpor("adopt", "--detect", "nothing*").out == "no lists of another library\n"


@pytest.mark.parametrize(
    "pattern",
    [
        *("agents:session:user:*", "agents:session:user:m*", "agents:session:user:messages*", "agents:session:*r:*"),
        *("agents:session:*:messages", "agents:session:1*", "agents:session:?:message?", "a*", "*:messages"),
        *("m*", "messag[a-f]*", "*s*"),
    ],
)
def test_each_command_finds_at_least_the_sessions_that_were_counted(
    client: redis.Redis, torpor: Torpor, pattern: str
) -> None:
    write(client)
    found = [each for each in torpor("adopt", "--detect", pattern, "--json").json if each["name"]]
    assert found
    for each in found:
        adopted = torpor(*shlex.split(each["command"])[1:], "--json").json
        assert adopted["sessions"] >= each["sessions"], (each, adopted)


@pytest.mark.parametrize("others", [["--match", "*"], ["--format", "memorystore"]])
def test_it_stands_alone(torpor: Torpor, others: list[str]) -> None:
    result = torpor("adopt", "--detect", "*", *others)
    assert (result.code, "--detect" in result.err) == (2, True)


def test_long_lists_are_not_read(client: redis.Redis, torpor: Torpor) -> None:
    theirs = Foreign(client)
    theirs.add(*["x" * 1_000] * 50)
    raw(client, "RPUSH", theirs.key, "no message, but beyond the look")
    [found] = torpor("adopt", "--detect", "*", "--json").json
    assert (found["name"], found["sessions"]) == ("memorystore", 1)
