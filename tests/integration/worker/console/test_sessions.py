"""The console's list of sessions: by id, by owner, and by a walk that streams, keeps to its rate, and can be ended."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from urllib.parse import unquote, urlencode

import httpx
import pytest
import redis

from support.cli_sessions import say, sleep
from support.keyspace import raw
from support.pages_read import Browser, Shown, browser
from support.waiting import wait_until
from torpor.history.protocol import ANY_OWNER, Lease, PurgeOutcome, PurgeTarget, Purging
from torpor.worker.access.cursor import Cursor, Stretch
from torpor.worker.archive.stores import StoredObject
from torpor.worker.console.pages.sessions import STATES
from torpor.worker.console.searches import OF_ONE, SEARCHES
from torpor.worker.control_characters import one_line
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable

pytestmark = pytest.mark.slow


@pytest.fixture
def people(client: redis.Redis, services: Services) -> None:
    """Ann's chats, two awake and two asleep, and bob's, one of each."""
    for name, owner in (("a2", "ann"), ("a4", "ann"), ("b2", "bob")):
        sleep(client, services, name, "one", "two", owner=owner)
    for name, owner in (("a1", "ann"), ("a3", "ann"), ("b1", "bob")):
        say(client, name, owner=owner)


@pytest.fixture
def console(services: Services) -> Iterator[Browser]:
    with browser(services) as opened:
        yield opened
    assert not len(SEARCHES)


def ids(console: Browser, **query: str) -> list[str]:
    page = console.get("/sessions", **query)
    assert page.status == 200, page.text
    return [row[0] for row in page.rows]


@pytest.mark.usefixtures("people")
def test_a_session_is_found_by_its_id_awake_or_asleep(console: Browser) -> None:
    awake, asleep = console.get("/sessions", id="a1"), console.get("/sessions", id="a2")
    assert [row[:5] for row in awake.rows] == [["a1", "chat", "live", "1", "0"]]
    assert [row[:5] for row in asleep.rows] == [["a2", "chat", "asleep", "2", "2"]]
    assert awake.link("a1") == "/session?id=a1"
    assert awake.link("ann") == "/person?owner=ann"
    assert "Neither Redis nor the archive" in console.get("/sessions", id="a").text


@pytest.mark.usefixtures("people")
def test_an_owner_s_sessions_are_listed_awake_and_asleep(console: Browser) -> None:
    assert ids(console, owner="ann") == ["a1", "a2", "a3", "a4"]
    assert ids(console, owner="nobody") == []


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["a1", "a2", "a3", "a4", "b1", "b2"]),
        ({"prefix": "b"}, ["b1", "b2"]),
        ({"prefix": "a", "state": "asleep"}, ["a2", "a4"]),
        ({"state": "awake"}, ["a1", "a3", "b1"]),
        ({"state": "live", "prefix": "a"}, ["a1", "a3"]),
        ({"state": "quarantined"}, []),
        ({"kind": "thread"}, []),
        ({"kind": "chat", "owner": "bob"}, ["b1", "b2"]),
        ({"owner": "ann", "state": "asleep"}, ["a2", "a4"]),
        ({"owner": "ann", "prefix": "a3"}, ["a3"]),
        ({"since": "1h"}, ["a1", "a2", "a3", "a4", "b1", "b2"]),
        ({"since": "2100-01-01"}, []),
    ],
    ids=str,
)
def test_lists_can_be_narrowed(console: Browser, query: dict[str, str], found: list[str]) -> None:
    page = console.get("/sessions", **query)
    assert sorted(row[0] for row in page.rows) == found
    assert f"{len(found)} found; nothing is left to look at." in page.text


def test_every_state_finds_its_sessions(client: redis.Redis, services: Services, console: Browser) -> None:
    sessions = services.sessions
    for name in ("live", "due", "in work", "postponed", "quarantined", "tombstone"):
        say(client, name)
    sleep(client, services, "asleep")
    sessions.close("due", owner=ANY_OWNER)
    for name in ("in work", "postponed", "quarantined"):
        lease = sessions.claim_one(name, timedelta(minutes=1))
        assert isinstance(lease, Lease)
        if name == "postponed":
            assert sessions.release(lease, timedelta(minutes=1), counted=False)
        elif name == "quarantined":
            assert sessions.quarantine(lease, "it can't be read")
    [purged] = sessions.purge([PurgeTarget("tombstone", "ann")], "purge-1", tombstone=timedelta(hours=1))
    assert isinstance(purged, Purging)
    assert purged.outcome is PurgeOutcome.PURGED
    found = {state: ids(console, state=state) for state in STATES if state not in ("", "awake", "restoring")}
    assert found == {state: [state] for state in found}
    assert len(found) == 7


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"id": "a" * 2_000}, "session id"),
        ({"owner": "a" * 2_000}, "owner"),
        ({"state": "tired"}, "a state is one of"),
        ({"kind": "letter"}, "a kind chat or thread"),
        ({"since": "yesterday"}, "neither a span"),
        ({"cursor": "no.cursor"}, "not a cursor"),
        ({"owner": "ann", "cursor": str(Cursor(Stretch.AWAKE, "a1"))}, "another list"),
        ({"state": "asleep", "cursor": str(Cursor(Stretch.AWAKE, "a1"))}, "another list"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_makes_no_sense_is_refused(console: Browser, query: dict[str, str], word: str) -> None:
    page = console.get("/sessions", **query)
    assert page.status == 400
    assert word in page.text


def test_hostile_ids_and_owners_stay_text_and_their_links_name_them_exactly(
    client: redis.Redis, services: Services, console: Browser
) -> None:
    session, owner = "<script>alert(1)</script>&\"'\n\x1b\u202e", "o'<b>\u2028"
    sleep(client, services, session, owner=owner)
    say(client, "x" + session, owner=owner)
    page = console.get("/sessions", owner=owner)
    assert not any(each in page.source for each in ("<script>alert", "<b>", "\x1b", "\u202e", "\u2028"))
    assert [row[0] for row in page.rows] == [one_line(session), one_line("x" + session)]
    assert [unquote(each) for each in page.links if each.startswith("/session?")] == [
        f"/session?id={session}",
        f"/session?id=x{session}",
    ]
    assert f"/person?owner={owner}" in map(unquote, page.links)


def test_a_session_whose_metadata_is_foreign_is_shown_as_such_among_the_others(
    client: redis.Redis, services: Services, console: Browser
) -> None:
    say(client, "a1")
    say(client, "a2")
    metadata = services.sessions.deployment.keyspace.of(b"a1").metadata(b"a1")
    assert raw(client, "DEL", metadata) == 1
    raw(client, "SET", metadata, "foreign")
    page = console.get("/sessions", prefix="a")
    assert sorted(row[0] for row in page.rows) == ["a1", "a2"]
    assert "Can't be read" in page.text


@pytest.mark.parametrize("query", [{}, {"owner": "ann"}, {"prefix": "s"}], ids=str)
def test_a_list_has_a_hundred_a_page_and_the_pages_have_each_session_once(
    client: redis.Redis, services: Services, console: Browser, query: dict[str, str]
) -> None:
    for number in range(230):
        say(client, f"s{number}")
    for number in range(20):
        sleep(client, services, f"s-asleep{number}")
    path: str | None = f"/sessions?{urlencode(query)}"
    found: list[list[str]] = []
    while path:
        page = console.get(path)
        found.append([row[0] for row in page.rows])
        path = page.link("The next 100") if "The next 100" in page.text else None
    assert [len(each) for each in found] == [100, 100, 50]
    whole = [each for page in found for each in page]
    assert sorted(whole) == sorted([*(f"s{n}" for n in range(230)), *(f"s-asleep{n}" for n in range(20))])


def parts(reply: httpx.Response) -> Iterator[str]:
    """What has come so far of a page, longer each time."""
    so_far = ""
    for part in reply.iter_text():
        so_far += part
        yield so_far


def scripts_run(client: redis.Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest.fixture
def many(client: redis.Redis, services: Services) -> set[str]:
    """Sixty sessions, which a slow search needs seconds for."""
    names = {f"s{number:02}" for number in range(60)}
    for name in names:
        say(client, name)
    assert services.sessions.deployment.keyspace.shards == 256
    return names


@pytest.mark.single_node(reason="it counts what one node does")
def test_rows_come_while_the_search_goes_on_and_it_ends_when_the_browser_goes_away(
    client: redis.Redis, services: Services, many: set[str]
) -> None:
    with browser(services, search_rate=5) as console:
        console.get("/sessions", id="s00")
        client.config_resetstat()
        with console.http.stream("GET", "/sessions", params={"prefix": "s"}) as reply:
            begun = next(text for text in parts(reply) if text.count('<th scope="row"') >= 3)
            assert "</html>" not in begun
            assert re.search(r"So far looked at \d+ of 256 shards of Redis\.", begun)
            first = [row[0] for row in Shown(200, begun).rows]
            here = Shown(200, begun[: begun.rindex("Go on from here") + 20]).links[-1]
            assert len(SEARCHES) == 1
        wait_until(lambda: not len(SEARCHES))
        assert scripts_run(client) < len(many)  # a whole walk runs two for each shard, and more
    with browser(services) as quick:
        assert {row[0] for row in quick.get(here).rows} == many - set(first)


def test_a_stopped_search_keeps_its_rows_and_says_how_to_go_on(services: Services, many: set[str]) -> None:
    with browser(services, search_rate=10) as console:
        token = console.token()
        with console.http.stream("GET", "/sessions", params={"prefix": "s"}) as reply:
            coming = parts(reply)
            begun = next(text for text in coming if text.count('<th scope="row"') >= 3)
            search = re.search(r'name="search" value="([^"]+)"', begun)
            assert search
            assert console.post("/sessions/stop", {"search": search[1]}, token=token).status == 204
            *_, whole = coming
        page = Shown(200, whole)
        assert "Stopped; " in page.text
        first = {row[0] for row in page.rows}
        assert 3 <= len(first) < len(many)
        path, rest = page.following, set[str]()
        while path:
            with browser(services) as quick:
                following = quick.get(path)
            rest |= {row[0] for row in following.rows}
            path = following.link("The next") if "The next 100" in following.text else ""
        assert (first | rest, first & rest) == (many, set())
        assert (
            console.post("/sessions/stop", {"search": search[1]}, token=token).status == 204
        )  # nothing is left to stop


@pytest.mark.usefixtures("many")
def test_a_search_keeps_to_its_rate(services: Services) -> None:
    with browser(services, search_rate=30) as console:
        begun = time.monotonic()
        assert len(ids(console, prefix="s", state="awake")) == 60
        assert time.monotonic() - begun > 1  # the first 30 are paid for by the rest


@pytest.mark.usefixtures("many")
def test_no_more_searches_run_at_a_time_than_are_allowed(services: Services) -> None:
    with browser(services, search_rate=1) as console, ExitStack() as open_searches:
        for _ in range(OF_ONE):
            reply = open_searches.enter_context(console.http.stream("GET", "/sessions", params={"prefix": "s"}))
            next(parts(reply))
        refused = console.get("/sessions", prefix="s")
        assert refused.status == 429
        assert console.get("/sessions", id="s00").status == 200
        open_searches.close()
        wait_until(lambda: not len(SEARCHES))


def test_a_search_that_fails_on_its_way_shows_the_error_and_how_to_go_on(
    services: Services, many: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(services.archive).list
    with browser(services) as console:

        def failing(self: object, prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
            if prefix > "v1/10/":
                raise ArchiveUnavailable("the archive sleeps, too")
            yield from whole(services.archive, prefix, generations=generations)

        monkeypatch.setattr(type(services.archive), "list", failing)
        page = console.get("/sessions", prefix="s")
        assert {row[0] for row in page.rows} == many
        assert "the search ended early: the archive sleeps, too" in page.text
        monkeypatch.undo()
        rest = console.get(page.following)
        assert (rest.status, rest.rows) == (200, [])
        assert "nothing is left to look at" in rest.text
