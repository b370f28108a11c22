"""What an operator and an officer do with a session on its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis

from support.cli_sessions import chat, say, sleep
from support.command import Torpor
from support.damaged import of_redis
from support.keyspace import dump, raw
from support.pages_read import READER, Browser, browser
from support.sessions import purge_session
from support.trail import entries_of
from torpor.history.protocol import ANY_OWNER, Lease, SessionStore, Status
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.console.roles import Role
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow


@pytest.fixture
def operator(services: Services) -> Iterator[Browser]:
    with browser(services, Role.OPERATOR) as opened:
        yield opened


def trail(services: Services) -> list[tuple[str, str, str, str, int]]:
    return [
        (begun.act, begun.by, begun.reason, ended.how, ended.sessions)
        for begun, ended in ((each.begun, each.ended) for each in entries_of(services))
        if ended
    ]


def quarantined(sessions: SessionStore, session_id: str) -> None:
    lease = sessions.claim_one(session_id, timedelta(minutes=1))
    assert isinstance(lease, Lease)
    assert sessions.quarantine(lease, "why")


def test_a_session_is_put_to_sleep_and_woken_and_the_audit_trail_has_both(
    client: redis.Redis, services: Services, sessions: SessionStore, operator: Browser
) -> None:
    say(client, "s", "one", "two")
    page = operator.get("/session", id="s")
    assert "Put to sleep now" in page.text
    assert "Wake" not in page.text
    page = operator.post("/session/sleep?id=s", {"reason": "it is large"})
    assert "The session sleeps now. 2 messages are verified in the archive." in page.text
    assert "State asleep" in page.text
    assert sessions.info("s", owner=ANY_OWNER) is None
    assert "Put to sleep now" not in page.text
    assert "The session sleeps now" not in operator.get("/session", id="s").text  # said once
    page = operator.post("/session/wake?id=s", {"reason": ""})
    assert "The session is awake. 2 messages came from the archive." in page.text
    assert [message.content for message in chat(client, "s").messages] == ["one", "two"]
    assert trail(services) == [
        ("archive", READER, "it is large", "done", 1),
        ("restore", READER, "", "done", 1),
    ]


def test_what_is_done_already_is_said_so(client: redis.Redis, services: Services, operator: Browser) -> None:
    sleep(client, services, "asleep")
    say(client, "awake")
    before = dump(client)
    assert "asleep already" in operator.post("/session/sleep?id=asleep").text
    assert operator.post("/session/requeue?id=awake").status == 404
    assert operator.post("/session/wake?id=nobody").status == 404
    assert operator.post("/session/sleep?id=nobody").status == 404
    assert operator.post("/session/sleep?id=").status == 400
    assert dump(client) == before
    assert "awake already" in operator.post("/session/wake?id=awake").text
    assert "awake already" in operator.post("/session/wake?id=awake").text


def test_a_session_in_quarantine_is_made_due_again(
    client: redis.Redis, sessions: SessionStore, operator: Browser
) -> None:
    say(client, "s")
    quarantined(sessions, "s")
    page = operator.get("/session", id="s")
    assert "Put to sleep now" not in page.text
    refused = operator.post("/session/sleep?id=s")
    assert (refused.status, "is in quarantine" in refused.text) == (409, True)
    page = operator.post("/session/requeue?id=s", {"reason": "mended"})
    assert "The session is due again" in page.text
    info = sessions.info("s", owner=ANY_OWNER)
    assert info
    assert (info.status, info.attempts) == (Status.DUE, 0)


def test_a_session_that_a_worker_has_is_left_to_it(
    client: redis.Redis, sessions: SessionStore, operator: Browser
) -> None:
    say(client, "s")
    assert isinstance(sessions.claim_one("s", timedelta(minutes=1)), Lease)
    page = operator.post("/session/sleep?id=s")
    assert (page.status, "a worker is busy with it" in page.text) == (503, True)


def test_a_reason_is_required_if_the_deployment_requires_one(
    client: redis.Redis, services: Services, sessions: SessionStore
) -> None:
    say(client, "s")
    strict = replace(services, settings=services.settings.model_copy(update={"require_reason": True}))
    with browser(strict, Role.OPERATOR) as operator:
        page = operator.get("/session", id="s")
        assert 'aria-describedby="what-sleep" required' in page.source
        before = dump(client)
        for reason in ("", "  "):
            refused = operator.post("/session/sleep?id=s", {"reason": reason})
            assert (refused.status, "the reason is missing" in refused.text) == (400, True)
        assert dump(client) == before
        assert operator.post("/session/sleep?id=s", {"reason": "it is large"}).status == 200
    assert sessions.info("s", owner=ANY_OWNER) is None
    assert [each[2] for each in trail(services)] == ["it is large"]


def test_only_an_operator_may_repair_and_only_an_officer_may_hold_and_erase(
    client: redis.Redis, services: Services
) -> None:
    say(client, "s")
    before = dump(client)
    with browser(services, Role.OFFICER) as officer:
        page = officer.get("/session", id="s")
        assert "What can be done" not in page.text
        assert "Hold this session" in page.text
        assert "/erase?session=s" in page.links
        for act in ("sleep", "wake", "requeue"):
            assert officer.post(f"/session/{act}?id=s").status == 403
    with browser(services, Role.OPERATOR) as operator:
        page = operator.get("/session", id="s")
        assert "Hold this session" not in page.text
        assert "/erase?session=s" not in page.links
        assert operator.post("/hold/set?session=s", {"reason": "case"}).status == 403
    assert dump(client) == before


def test_an_officer_holds_and_releases_a_session_from_its_page(client: redis.Redis, services: Services) -> None:
    say(client, "s")
    with browser(services, Role.OFFICER) as officer:
        page = officer.post("/hold/set?session=s", {"reason": "case 12/2026"})
        assert "The legal hold is set." in page.text
        page = officer.get("/session", id="s")
        assert "Held since" in page.text
        assert f"by {READER}" in page.text
        officer.post("/hold/release?session=s", {"reason": "case closed"})
        assert "Legal hold none" in officer.get("/session", id="s").text


def test_ids_with_control_characters_name_the_same_session_in_every_form(
    client: redis.Redis, services: Services, sessions: SessionStore, operator: Browser
) -> None:
    session = "s\x1b\n\u202e&'\"<b>"
    say(client, session)
    page = operator.get("/session", id=session)
    [action] = [each for each in page.actions if each.startswith("/session/sleep")]
    assert "sleeps now" in operator.post(action).text
    assert sessions.info(session, owner=ANY_OWNER) is None


def test_a_session_of_many_messages_is_woken_in_one_request(
    client: redis.Redis, services: Services, sessions: SessionStore, operator: Browser
) -> None:
    for _ in range(20):
        sessions.append("s", [b'{"type": "human", "data": {"content": "hello"}}'] * 1_000, owner=None)
    assert "20,000 messages are verified" in operator.post("/session/sleep?id=s").text
    assert "20,000 messages came from the archive" in operator.post("/session/wake?id=s").text


def damage_metadata(services: Services) -> None:
    """Damage what Redis knows of the session."""
    keys = services.sessions.deployment.keyspace.of(b"s")
    of_redis(services, keys.metadata(b"s"), "epoch", "yesterday")


def replace_messages(services: Services) -> None:
    """Put a key of another program in place of the messages."""
    key = services.sessions.deployment.keyspace.of(b"s").messages(b"s")
    raw(services.sessions.client, "DEL", key)
    raw(services.sessions.client, "SET", key, "another program's")


@pytest.mark.parametrize("spoil", [damage_metadata, replace_messages], ids=lambda each: each.__name__)
def test_of_a_session_that_can_t_be_read_only_what_works_is_offered_and_the_page_says_why(
    client: redis.Redis, services: Services, spoil: Callable[[Services], None]
) -> None:
    sleep(client, services, "s", "one")
    restore_session(services, "s")
    with browser(services) as somebody:
        page = somebody.get("/session", id="s")
        assert [each.partition("?")[0] for each in page.actions if each.startswith(("/session/", "/hold/"))] == [
            "/session/sleep",
            "/hold/set",
        ]
        spoil(services)
        page = somebody.get("/session", id="s")
        assert "can't be put to sleep, woken, shown or erased before it can be read again" in page.text
        offered = [each.partition("?")[0] for each in page.actions if each.startswith(("/session/", "/hold/"))]
        assert offered == (["/hold/set"] if spoil is damage_metadata else [])
        assert ("another program's key is in place of its own" in page.text) == (spoil is replace_messages)
        assert not [each for each in page.links if each.startswith(("/session/transcript", "/erase"))]
        alone = [each.partition("?")[0] for each in somebody.get("/hold", session="s").actions]
        assert ("/hold/set" in alone) == (spoil is damage_metadata)
        held = somebody.post("/hold/set?session=s", {"reason": "case 9"})
        assert somebody.post("/session/sleep?id=s").status >= 400
        assert "messages came from the archive" not in somebody.post("/session/wake?id=s").text
        assert somebody.get("/session/transcript", id="s", reason="r").status >= 400
        assert (held.status == 200) == (spoil is damage_metadata)


def test_what_needs_the_archive_is_not_offered_while_it_does_not_answer(
    client: redis.Redis, services: Services, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(client, "s")
    quarantined(services.sessions, "s")
    say(client, "t")
    say(client, "purged")
    purge_session(services, "purged")

    def failing(self: object, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        raise ArchiveUnavailable("the bucket is out of reach")

    monkeypatch.setattr(type(services.archive), "list", failing)
    assert "/session/requeue?id=s" in operator.get("/session", id="s").actions
    page = operator.get("/session", id="t")
    assert not [each for each in page.actions if each.startswith("/session/")]
    assert "It can be put to sleep or woken when the archive answers again." in page.text
    assert "Less can be done" not in operator.get("/session", id="purged").text


def test_a_session_of_which_nothing_can_be_restored_is_not_offered_to_be_woken(
    client: redis.Redis, services: Services, operator: Browser
) -> None:
    sleep(client, services, "s")
    assert "/session/wake?id=s" in operator.get("/session", id="s").actions
    for each in services.archive.list(names.session_prefix("s")):
        if names.parse("s", each.name):
            services.archive.amend(each, custom_time=datetime(2026, 1, 1, tzinfo=UTC))
    page = operator.get("/session", id="s")
    assert "There is nothing to wake" in page.text
    assert not [each for each in page.actions if each.startswith("/session/")]
    assert operator.post("/session/wake?id=s").status == 404


def test_one_session_that_can_t_be_read_keeps_no_other_in_quarantine(
    client: redis.Redis, services: Services, sessions: SessionStore, torpor: Torpor, operator: Browser
) -> None:
    keys = services.sessions.deployment.keyspace.of(b"s")
    for session_id in ("a", "s", "z"):
        say(client, session_id)
        quarantined(sessions, session_id)
    raw(client, "DEL", keys.metadata(b"s"))
    raw(client, "SET", keys.metadata(b"s"), "another program's")
    page = operator.post("/quarantine/requeue-all", {"reason": "mended"})
    assert "2 sessions are due again" in page.text
    assert "left in quarantine: s: " in page.text
    for session_id in ("a", "z"):
        quarantined(sessions, session_id)
    done = torpor("requeue", "--all")
    assert (done.code, sorted(done.out.split()[1::2])) == (1, ["a", "z"])
    assert "s: " in done.err
    assert list(sessions.sessions(quarantined=True)) == ["s"]
