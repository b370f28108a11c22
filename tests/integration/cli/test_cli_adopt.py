"""torpor adopt and torpor export --to-memorystore: what people and programs see, in bulk and again."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage, message_to_dict

from support.command import Torpor
from support.foreign import LAYOUTS, Foreign
from support.keyspace import dump, lasting_keys, raw
from torpor import MemorystoreChatMessageHistory
from torpor.history import calls
from torpor.history.protocol import Layout
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session

COMMUNITY = LAYOUTS["community"]
TURN = [HumanMessage("what is up?"), AIMessage("the sky")]

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def chat(client: redis.Redis, session_id: str) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id)


def adopt(torpor: Torpor, *arguments: str, form: str = "memorystore", match: str = "*") -> Any:
    result = torpor("adopt", "--match", match, "--format", form, "--json", *arguments)
    assert result.code == 0, result
    return {name: value for name, value in result.json.items() if name not in ("job", "gone")}


@pytest.mark.parametrize("form", LAYOUTS)
def test_a_dry_run_tells_what_the_run_does_and_changes_nothing(client: redis.Redis, torpor: Torpor, form: str) -> None:
    for number in range(3):
        Foreign(client, LAYOUTS[form], f"user-{number}", ttl=600).add(*TURN)
    Foreign(client, LAYOUTS[form], "other").add(*TURN)
    before = dump(client)
    told = adopt(torpor, "--dry-run", form=form, match="user-*")
    planned = told.pop("planned")
    assert told == {"sessions": 3, "messages": 6, "left": {}, "converted": {}, "dry_run": True}
    first, last = map(message_to_dict, TURN)
    assert sorted(planned, key=lambda each: str(each["session_id"])) == [
        {"session_id": f"user-{number}", "owner": None, "messages": 2, "converted": {}, "first": first, "last": last}
        for number in range(3)
    ]
    said = torpor("adopt", "--match", "user-*", "--format", form, "--dry-run").out.splitlines()
    assert "user-1: 2 messages, human: what is up? ... ai: the sky" in said
    assert said[-1] == "would adopt: 3 sessions, 6 messages"
    assert dump(client) == before
    result = torpor("adopt", "--match", "user-*", "--format", form)
    assert (result.code, result.out) == (0, "adopted: 3 sessions, 6 messages\n")
    assert adopt(torpor, form=form, match="user-*") == {"sessions": 0, "messages": 0, "left": {}, "dry_run": False}
    for number in range(3):
        assert chat(client, f"user-{number}").messages == TURN
        info = chat(client, f"user-{number}").info()
        assert info
        assert 595 <= info.idle_timeout.total_seconds() <= 600
    assert Foreign(client, LAYOUTS[form], "other").messages == TURN


def test_torpors_own_keys_are_no_business_of_the_report(client: redis.Redis, torpor: Torpor) -> None:
    chat(client, "ours").add_messages(TURN)
    Foreign(client).add(*TURN)
    assert adopt(torpor) == {"sessions": 1, "messages": 2, "left": {}, "dry_run": False}


def test_what_is_no_conversation_is_counted_by_reason_and_left(client: redis.Redis, torpor: Torpor) -> None:
    Foreign(client, session_id="good").add(*TURN)
    chat(client, "ours").add_messages(TURN)
    MemorystoreChatMessageHistory(client, "s", namespace="another").add_messages(TURN)
    raw(client, "HSET", "profile:1", "name", "ann")
    raw(client, "HSET", "profile:2", "name", "bob")
    raw(client, "RPUSH", "jobs", "task")
    raw(client, "RPUSH", b"\xff", "x")
    raw(client, "RPUSH", "x" * 1_025, "x")
    kept = {key: value for key, value in dump(client).items() if key != b"good"}
    found = adopt(torpor, match="[^{at]*")  # but for the keys of another deployment
    assert (found["sessions"], found["messages"]) == (1, 2)
    assert {reason: each["count"] for reason, each in found["left"].items()} == {
        "it is a hash and no list": 2,
        "not all of it is LangChain messages": 1,
        "its name is no session id": 2,
    }
    assert found["left"]["not all of it is LangChain messages"]["example"] == "jobs"
    assert adopt(torpor)["sessions"] == 0
    assert dump(client).items() >= kept.items()
    said = torpor("adopt", "--match", "jobs", "--format", "memorystore").out
    assert said.splitlines()[1] == "not adopted: 1, such as jobs: not all of it is LangChain messages"


def test_sessions_of_another_format_are_passed_over_and_named(client: redis.Redis, torpor: Torpor) -> None:
    community = Foreign(client, COMMUNITY, "ann")
    community.add(*TURN)
    Foreign(client, session_id="bob").add(*TURN)
    reason = "it has the prefix of another format: --format community"
    left = {reason: {"count": 1, "example": "message_store:ann"}}
    for options in (["--dry-run"], [], ["--force"]):
        assert adopt(torpor, *options)["left"] == left
    assert community.messages == TURN
    assert chat(client, "bob").messages == TURN
    assert adopt(torpor, form="community")["sessions"] == 1
    assert chat(client, "ann").messages == TURN


def test_keys_of_celery_and_of_other_deployments_are_no_business_of_the_report(
    client: redis.Redis, torpor: Torpor
) -> None:
    MemorystoreChatMessageHistory(client, "s", namespace="another", owner="ann").add_messages(TURN)
    for command in (
        ("LPUSH", "torpor:celery:torpor", "{}"),
        ("SADD", "another:celery:_kombu.binding.another", "x"),
        ("LPUSH", "celery", "{}"),
        ("LPUSH", "celery\x06\x163", "{}"),
        ("SADD", "_kombu.binding.celery", "x"),
        ("HSET", "unacked", "x", "y"),
        ("SET", "celery-task-meta-1", "{}"),
    ):
        raw(client, *command)
    before = dump(client)
    for options in (["--dry-run"], []):
        found = adopt(torpor, *options)
        assert (found["sessions"], found["left"]) == (0, {})
    changed = {key for key, value in dump(client).items() if before.get(key) != value and b":job:" not in key}
    assert changed <= {b"torpor:config"}
    assert before.keys() <= dump(client).keys()
    raw(client, "DEL", "celery")
    Foreign(client, session_id="celery").add(*TURN)
    assert adopt(torpor)["sessions"] == 1


@pytest.mark.parametrize("form", LAYOUTS)
def test_messages_in_the_other_order_are_adopted_only_if_forced(client: redis.Redis, torpor: Torpor, form: str) -> None:
    reverse = replace(LAYOUTS[form], newest_first=not LAYOUTS[form].newest_first)
    Foreign(client, reverse, "backwards").add(*TURN, *TURN)
    Foreign(client, LAYOUTS[form], "right").add(*TURN)
    before = dump(client)
    told = adopt(torpor, "--dry-run", form=form)
    assert dump(client) == before
    done = adopt(torpor, form=form)
    assert told["left"] == done["left"]
    [(reason, left)] = done["left"].items()
    looks = "newest" if reverse.newest_first else "oldest"
    assert f"its messages look {looks} first" in reason
    assert left["example"].endswith("backwards")
    assert (told["sessions"], done["sessions"]) == (1, 1)
    assert Foreign(client, reverse, "backwards").messages == TURN * 2
    assert adopt(torpor, "--force", form=form)["sessions"] == 1
    assert chat(client, "backwards").messages == (TURN * 2)[::-1]


def test_a_prefix_of_the_applications_own_is_taken_as_it_stands(client: redis.Redis, torpor: Torpor) -> None:
    Foreign(client, Layout("a[1]*:", newest_first=True), "s").add(*TURN)
    Foreign(client, Layout("a1x:", newest_first=True), "s").add("of another prefix")
    assert adopt(torpor, "--prefix", "a[1]*:", form="community")["sessions"] == 1
    assert chat(client, "s").messages == TURN


def test_an_idle_timeout_can_be_given_to_all(client: redis.Redis, torpor: Torpor) -> None:
    Foreign(client, ttl=7).add(*TURN)
    adopt(torpor, "--ttl", "3600")
    info = chat(client, "s").info()
    assert info
    assert info.idle_timeout.total_seconds() == 3_600


def test_what_a_killed_adoption_had_taken_is_finished_first(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    theirs = Foreign(client, COMMUNITY, "{user}:1")
    theirs.add("a", "b")
    services.sessions.run(calls.take_list("torpor", "{user}:1", COMMUNITY, "0a1b", 2))
    theirs.add("c")
    assert adopt(torpor, form="community", match="{user}*")["messages"] == 3
    assert [message.content for message in chat(client, "{user}:1").messages] == ["a", "b", "c"]
    assert not raw(client, "KEYS", "torpor:adopting:*")


def test_many_sessions_are_adopted_while_the_other_library_goes_on_writing(client: redis.Redis, torpor: Torpor) -> None:
    sessions = [Foreign(client, session_id=f"s{number}") for number in range(60)]
    for theirs in sessions:
        theirs.add("0")
    over = threading.Event()

    def write() -> None:
        for number in range(1, 6):
            for theirs in sessions:
                theirs.add(str(number))
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    adopted = 0
    while not over.is_set():
        adopted += adopt(torpor, match="s*")["messages"]
    writer.join()
    adopted += adopt(torpor, match="s*")["messages"]
    assert adopted == 6 * len(sessions)
    for theirs in sessions:
        assert [message.content for message in chat(client, theirs.session_id).messages] == [*"012345"]


def test_bad_usage_is_told_and_changes_nothing(client: redis.Redis, torpor: Torpor) -> None:
    Foreign(client).add(*TURN)
    before = dump(client)
    for arguments, said in (
        (["adopt", "--format", "memorystore"], "--match"),
        (["adopt", "--match", "*"], "--format"),
        (["adopt", "--match", "*", "--format", "redis"], "memorystore"),
        (["adopt", "--match", "*", "--format", "memorystore", "--ttl", "0"], "ttl"),
        (["adopt", "--match", "\udce4", "--format", "memorystore"], "surrogate"),
        (["export"], "--all"),
        (["export", "s", "--all"], "--all"),
        (["export", "s", "--ttl", "5"], "--to"),
        (["export", "s", "--to-memorystore", "-o", "file"], "--output"),
    ):
        result = torpor(*arguments)
        assert (result.code, said in result.said) == (2, True), (arguments, result)
    assert dump(client) == before


# Leaving


def test_sessions_are_given_back_from_redis_and_from_the_archive_without_being_woken(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    for session_id in ("awake", "asleep", "half"):
        chat(client, session_id).add_messages(TURN)
    for session_id in ("asleep", "half"):
        archive_session(services, session_id)
    chat(client, "half").add_user_message("more")
    result = torpor("export", "awake", "asleep", "half", "--to-memorystore", "--prefix", "", "--ttl", "600")
    assert (result.code, result.out.splitlines()) == (
        0,
        ["given back: awake, 2 messages", "given back: asleep, 2 messages", "given back: half, 3 messages"],
    )
    assert Foreign(client, session_id="awake").messages == TURN
    assert Foreign(client, session_id="asleep").messages == TURN
    assert [message.content for message in Foreign(client, session_id="half").messages][2:] == ["more"]
    assert 590_000 < raw(client, "PTTL", "asleep") <= 600_000
    assert services.sessions.info("asleep") is None
    assert chat(client, "awake").messages == TURN
    again = torpor("export", "awake", "--to-memorystore", "--prefix", "")
    assert (again.code, "the key 'awake' exists already" in again.said) == (1, True)


def test_all_are_given_back_once_however_often_it_is_run(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    for number in range(5):
        chat(client, f"s{number}").add_messages(TURN)
    archive_session(services, "s0")
    chat(client, "purged").add_messages(TURN)
    torpor("purge", "--session", "purged", "--yes")
    assert (
        torpor("export", "--all", "--to-memorystore", "--prefix", "").out
        == "given back: 5 sessions; 0 have their key already\n"
    )
    raw(client, "DEL", "s3")
    assert (
        torpor("export", "--all", "--to-memorystore", "--prefix", "").out
        == "given back: 1 sessions; 4 have their key already\n"
    )
    for number in range(5):
        assert Foreign(client, session_id=f"s{number}").messages == TURN
    assert not raw(client, "EXISTS", "purged")


def test_a_session_that_can_not_be_given_back_is_named_and_the_others_are(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    chat(client, "good").add_messages(TURN)
    services.sessions.append("bad", [b"no message"])
    result = torpor("export", "--all", "--to-memorystore", "--prefix", "")
    assert result.code == 1
    assert "message 0 of session 'bad' is not a LangChain message" in result.said
    assert "1 sessions or shards could not be exported" in result.said
    assert Foreign(client, session_id="good").messages == TURN


def test_several_sessions_are_exported_as_lines(client: redis.Redis, torpor: Torpor, tmp_path: Path) -> None:
    for session_id in ("a", "b"):
        chat(client, session_id).add_messages(TURN)
    torpor("archive", "b")
    file = tmp_path / "out.jsonl"
    assert torpor("export", "--all", "-o", str(file)).code == 0
    assert sorted(file.read_text().splitlines()) == sorted(torpor("export", "a", "b").out.splitlines())
    before = file.read_bytes()
    assert torpor("export", "none", "-o", str(file)).code == 3
    assert file.read_bytes() == before


def test_what_is_given_back_purged_and_adopted_again_has_made_the_round(client: redis.Redis, torpor: Torpor) -> None:
    Foreign(client, ttl=600).add(*TURN)
    adopt(torpor)
    assert torpor("archive", "s").code == 0
    assert torpor("export", "--all", "--to-memorystore", "--prefix", "").code == 0
    assert torpor("purge", "--session", "s", "--yes").code == 0
    assert Foreign(client).messages == TURN
    assert adopt(torpor, "--dry-run", match="s")["left"] == adopt(torpor, match="s")["left"]
    assert adopt(torpor, match="s")["left"] == {"its session was purged": {"count": 1, "example": "s"}}
    assert Foreign(client).messages == TURN
    again = MemorystoreChatMessageHistory(client, "s", adopt="memorystore", allow_reuse=True)
    assert again.messages == TURN
    assert b"s" not in lasting_keys(client)
