"""Owners whose names are easily taken for another one's are named wherever a person's sessions are looked at."""

from __future__ import annotations

import unicodedata
from html import unescape
from pathlib import Path

import pytest
import redis

from support.command import Torpor
from support.consoles import OFFICER, served
from support.keyspace import commands_run
from support.purging import say, sleep
from torpor.worker.access import look_alikes
from torpor.worker.deployment.services import Services

NFC, NFD = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
# A name that somebody has typed -> names that he may have meant.
SIMILAR = {
    "ann": ["Ann", "ANN", "ann ", " ann"],
    "Ann": ["ann"],
    "ANN": ["ann", "Ann"],
    " ann ": ["ann", "Ann"],
    "ann@X.example": ["ann@x.example", "Ann@X.example"],
    "Ann.Lee@x": ["ann.lee@x"],
    "ann lee": ["Ann Lee"],
    NFC: [NFD, "zoë"],
    NFD: [NFC],
    "\uff21nn": ["Ann"],  # a wide letter
}


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.mark.parametrize(("typed", "meant"), SIMILAR.items(), ids=ascii)
def test_names_that_differ_by_case_blanks_or_form_are_similar(typed: str, meant: list[str]) -> None:
    found = look_alikes.names_like(typed)
    assert set(meant) <= found
    assert typed not in found
    assert len(found) <= 40


@pytest.mark.parametrize("name", ["x" * 1_024, "ß" * 512, "1", " "], ids=["long", "grows", "digit", "blank"])
def test_a_name_that_no_owner_may_have_is_not_looked_up(services: Services, name: str) -> None:
    assert look_alikes.find(services, name) == []


def test_similar_owners_are_found_awake_and_asleep_and_counted(services: Services) -> None:
    say(services, "a", owner="ann")
    for number in range(3):
        say(services, f"awake{number}", owner="Ann")
    sleep(services, "asleep", owner="ann ")
    say(services, "other", owner="anna")
    found = look_alikes.find(services, "ann")
    assert [(each.owner, each.sessions, each.more) for each in found] == [("Ann", 3, False), ("ann ", 1, False)]
    assert [str(each) for each in found] == ["'Ann', 3 sessions", "'ann ', 1 session"]
    assert [each.owner for each in look_alikes.find(services, "Ann")] == ["ann"]


@pytest.mark.single_node(reason="the statistics of one node are compared")
def test_a_look_costs_the_same_however_many_sessions_there_are(services: Services, client: redis.Redis) -> None:
    def scripts() -> int:
        before = commands_run(client, "evalsha")
        look_alikes.find(services, "ann")
        return commands_run(client, "evalsha") - before

    say(services, "a", owner="ann")
    few = scripts()
    for number in range(500):
        say(services, f"s{number}", owner="ann")
    assert scripts() == few <= 300


@pytest.mark.slow
def test_the_commands_name_the_similar_owners(services: Services, torpor: Torpor, tmp_path: Path) -> None:
    for number in range(3):
        say(services, f"s{number}", owner="Ann")
    also = "also: 'Ann', 3 sessions: another owner, whose name is similar"
    listed = torpor("sessions", "--owner", "ann")
    assert (listed.code, listed.err) == (0, f"no such session of owner 'ann'\n{also}\n")
    for arguments in (["--dry-run"], ["--dry-run", "--json"], ["--yes"]):
        refused = torpor("purge", "--owner", "ann", *arguments)
        assert (refused.code, also in refused.err) == (3, True), refused
    say(services, "mine", owner="ann")
    assert also in torpor("purge", "--owner", "ann", "--dry-run").err
    assert also in torpor("export", "--owner", "ann", "-o", str(tmp_path / "ann")).err
    assert also not in torpor("sessions", "--owner", "Ann").err
    purged = torpor("purge", "--owner", "ann", "--yes")
    assert (purged.code, also in purged.err) == (0, True)
    assert len(torpor("sessions", "--owner", "Ann", "--json").lines) == 3


@pytest.mark.slow
def test_the_console_names_the_similar_owners(services: Services) -> None:
    say(services, "mine", owner="ann")
    say(services, "other", owner="Ann<b>")
    say(services, "others", owner="Ann")
    with served(services) as console:
        officer = console.visitor(OFFICER)
        for path in ("/person", "/erase"):
            page = officer.get(path, owner="ann").text
            assert '<a href="/person?owner=Ann">Ann</a>' in page
            assert "another owner has a similar name" in page
            assert "'Ann', 1 session" in unescape(page)
        hostile = officer.get("/person", owner="ann<b>").text
        assert "Ann&lt;b&gt;" in hostile
        assert "Ann<b>" not in hostile
        unknown = officer.get("/person", owner="aNN").text
        assert "No session of this owner is known" in unknown
        assert '<a href="/person?owner=ann">ann</a>' in unknown
