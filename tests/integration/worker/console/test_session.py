"""The console's page of a session, awake and asleep: facts, life and objects."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from support.cli_sessions import say, sleep
from support.pages_read import Browser, browser
from torpor.history.protocol import ANY_OWNER, Lease, PurgeTarget, SessionStore
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable
from torpor.worker.retention import legal_hold

pytestmark = pytest.mark.slow


@pytest.fixture
def console(services: Services) -> Iterator[Browser]:
    with browser(services) as opened:
        yield opened


def test_the_page_of_a_sleeping_session_shows_what_the_archive_has(
    client: redis.Redis, services: Services, console: Browser
) -> None:
    sleep(client, services, "s", "one", "two")
    page = console.get("/session", id="s")
    assert page.status == 200
    assert "State asleep" in page.text
    assert "0 in Redis, 2 in the archive" in page.text
    assert page.link("ann") == "/person?owner=ann"
    assert page.link("Show the transcript") == "/session/transcript?id=s"
    assert '<ol class="life">' in page.source
    assert [row[1:4] for row in page.rows] == [["owner marker", "-", "0 B"], ["segment", "2", page.rows[1][3]]]
    assert "one" not in page.text.split()  # no message


def test_an_awake_session_shows_when_it_is_due_and_how_long_it_is_kept(
    client: redis.Redis, services: Services, sessions: SessionStore, console: Browser
) -> None:
    say(client, "s", "one")
    page = console.get("/session", id="s")
    info = sessions.info("s", owner=ANY_OWNER)
    assert info
    assert info.due_at
    assert f"Due {info.due_at:%Y-%m-%d %H:%M:%S} UTC Idle timeout 1h Retention for ever" in page.text
    assert "State live" in page.text
    assert "Legal hold none" in page.text
    assert "None." in page.text


def test_a_hold_is_shown_with_its_reason_and_who_has_set_it_awake_and_asleep(
    client: redis.Redis, services: Services, console: Browser
) -> None:
    sleep(client, services, "asleep")
    say(client, "awake")
    for name in ("asleep", "awake"):
        assert legal_hold.hold_session(services, name, "case 12/2026", "counsel@example.com")
    assert legal_hold.hold_owner(services, "ann", "case 13/2026")
    for name in ("asleep", "awake"):
        page = console.get("/session", id=name)
        assert "Legal hold of the session case 12/2026" in page.text
        assert "by counsel@example.com" in page.text
        assert "Legal hold of the owner case 13/2026" in page.text


def test_a_session_in_quarantine_shows_its_error_and_a_tombstone_its_purge(
    client: redis.Redis, services: Services, sessions: SessionStore, console: Browser
) -> None:
    say(client, "stuck")
    lease = sessions.claim_one("stuck", timedelta(minutes=1))
    assert isinstance(lease, Lease)
    assert sessions.quarantine(lease, "the <b>bucket</b> is gone")
    page = console.get("/session", id="stuck")
    assert "State quarantined" in page.text
    assert "the <b>bucket</b> is gone" in page.text
    say(client, "gone")
    sessions.purge([PurgeTarget("gone", "ann")], "purge-7", tombstone=timedelta(hours=1))
    page = console.get("/session", id="gone")
    assert "State tombstone" in page.text
    assert "Purge purge-7" in page.text
    assert "Show the transcript" not in page.text


def test_two_owners_of_an_id_are_shown(client: redis.Redis, services: Services, console: Browser) -> None:
    sleep(client, services, "s", "one", owner="ann")
    say(client, "s", "two", "three", owner="bob")
    page = console.get("/session", id="s")
    assert "Conflict: owner bob has used this id, too: 2 messages in Redis." in page.text
    assert "Owner ann" in page.text


def test_a_session_that_nobody_has_is_not_found(console: Browser) -> None:
    page = console.get("/session", id="nobody")
    assert (page.status, "neither in Redis nor in the archive" in page.text) == (404, True)
    assert console.get("/session", id="").status == 400
    assert console.get("/session").status == 400


def test_while_the_archive_is_down_the_page_has_what_redis_knows(
    client: redis.Redis, services: Services, console: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(client, "awake")
    sleep(client, services, "asleep")

    def failing(self: object, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        raise ArchiveUnavailable("the bucket is out of reach")

    monkeypatch.setattr(type(services.archive), "list", failing)
    page = console.get("/session", id="awake")
    assert (page.status, "State live" in page.text) == (200, True)
    assert "The archive does not answer: the bucket is out of reach." in page.text
    assert console.get("/session", id="asleep").status == 503
