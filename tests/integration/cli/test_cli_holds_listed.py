"""torpor holds: who is under a legal hold, since when, why, and by whom."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import redis

from support.cli_sessions import chat, harmless, say
from support.command import Torpor
from torpor.history import calls
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def test_holds_are_listed_with_who_has_set_them_and_why(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    for session_id in ("s", "t"):
        say(client, session_id)
    before = datetime.now(UTC)
    assert torpor("hold", "--session", "s", "--reason", "case 1", "--by", "counsel").code == 0
    assert torpor("hold", "--owner", "bob", "--reason", "case 2", "--by", "dpo").code == 0
    chat(client, "t").hold("case 3")
    listed = {(each["kind"], each["id"]): each for each in torpor("holds", "--json").lines}
    assert {key: (each["reason"], each["by"], each["caller"]) for key, each in listed.items()} == {
        ("session", "s"): ("case 1", "counsel", None),
        ("owner", "bob"): ("case 2", "dpo", None),
        ("session", "t"): ("case 3", "", "ann"),
    }
    for each in listed.values():
        assert abs((datetime.fromisoformat(each["since"]) - before).total_seconds()) < 60
    told = torpor("holds").out
    assert all(each in told for each in ("case 1", "counsel", "bob", "an application of ann"))
    assert len(told.splitlines()) == 4


def test_a_hold_that_is_set_again_has_its_new_setter_and_one_that_is_released_is_listed_no_more(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    say(client, "s")
    for named in (["--session", "s"], ["--owner", "ann"]):
        assert torpor("hold", *named, "--reason", "one", "--by", "first").code == 0
        assert torpor("hold", *named, "--reason", "two").code == 0
        [listed] = torpor("holds", "--json").lines
        assert (listed["reason"], listed["by"]) == ("two", "")
        assert torpor("hold", *named, "--reason", "three", "--by", "third").code == 0
        assert torpor("unhold", *named, "--by", "fourth", "--reason", "over").code == 0
        assert torpor("holds", "--json").lines == []
        assert torpor("hold", *named, "--reason", "four").code == 0
        [listed] = torpor("holds", "--json").lines
        assert listed["by"] == ""
        assert torpor("unhold", *named).code == 0


def test_more_holds_than_a_page_are_listed_once_each(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    names = [f"s{number}" for number in range(700)]
    for name in names:
        services.sessions.hold(name, "r", by="b")
    for number in range(3):
        services.sessions.hold_owner(f"o{number}", "r")
    listed = [(each["kind"], each["id"]) for each in torpor("holds", "--json").lines]
    assert sorted(listed) == sorted(
        [*(("session", name) for name in names), *(("owner", f"o{number}") for number in range(3))]
    )


def test_hostile_reasons_and_names_are_harmless(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    nasty = "s\x1b[2J\x9b31m\u202e\n[bold]x[/bold]"
    say(client, nasty, owner=nasty)
    done = torpor("hold", "--session", nasty, "--reason", nasty, "--by", nasty)
    lists = [torpor("holds"), torpor("holds", "--json"), torpor("audit"), torpor("audit", "--json")]
    assert harmless(done, *lists)
    assert len(lists[0].out.splitlines()) == 2
    assert len(lists[2].out.splitlines()) == 1
    assert lists[1].lines[0]["by"] == lists[3].lines[0]["by"] == nasty
    assert torpor("hold", "--session", nasty, "--reason", "r", "--by", "\udcff").code == 2


def test_the_hold_of_an_owner_that_stands_in_some_shards_alone_is_listed_once(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    """Whoever set or released it was killed before all shards knew."""
    store = services.sessions
    store.hold_owner("everywhere", "one", by="a")
    for shard in (7, 8, 200):
        store.run(calls.hold_owner(store.deployment, shard, "half", "two", "b"))
    listed = [(each["kind"], each["id"], each["reason"], each["by"]) for each in torpor("holds", "--json").lines]
    assert listed == [("owner", "everywhere", "one", "a"), ("owner", "half", "two", "b")]
