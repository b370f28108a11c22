"""`torpor sessions`: a person's sessions awake and asleep, what a walk finds, and pages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import redis

from support.cli_sessions import chat, say, sleep
from support.command import Torpor
from support.keyspace import raw
from torpor.history.keys import seen_key
from torpor.history.protocol import ANY_OWNER, SessionInfo, SessionStore, TorporError
from torpor.worker.access import listing
from torpor.worker.access.cursor import Cursor, Stretch
from torpor.worker.access.life import life
from torpor.worker.access.search import Search
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring.exposition import Exposition
from torpor.worker.monitoring.figures import gather
from torpor.worker.pace import Pace

pytestmark = pytest.mark.slow


def ids(torpor: Torpor, *options: str) -> list[str]:
    done = torpor("sessions", *options, "--json")
    assert done.code == 0, done.err
    return [each["session_id"] for each in done.lines]


def all_pages(torpor: Torpor, *options: str, limit: int = 1) -> list[str]:
    """The ids of a list, page by page, each page from the cursor of the last session before it."""
    found: list[str] = []
    cursor: list[str] = []
    while lines := torpor("sessions", *options, "--limit", str(limit), "--json", *cursor).lines:
        assert len(lines) <= limit
        found += [each["session_id"] for each in lines]
        cursor = ["--cursor", lines[-1]["cursor"]]
    return found


@pytest.fixture
def people(client: redis.Redis, services: Services) -> None:
    """Ann's chats, two awake and two asleep, and bob's, one of each."""
    for name, owner in (("a2", "ann"), ("a4", "ann"), ("b2", "bob")):
        sleep(client, services, name, "one", "two", owner=owner)
    for name, owner in (("a1", "ann"), ("a3", "ann"), ("b1", "bob")):
        say(client, name, owner=owner)


@pytest.mark.usefixtures("people")
def test_a_person_s_sessions_are_listed_awake_and_asleep_by_id(torpor: Torpor) -> None:
    assert ids(torpor, "--owner", "ann") == ["a1", "a2", "a3", "a4"]
    by_id = {each["session_id"]: each for each in torpor("sessions", "--owner", "ann", "--json").lines}
    assert [(each["status"], each["message_count"], each["owner"]) for each in by_id.values()] == [
        ("live", 1, "ann"),
        ("asleep", 2, "ann"),
        ("live", 1, "ann"),
        ("asleep", 2, "ann"),
    ]
    assert {each["kind"] for each in by_id.values()} == {"chat"}
    told = torpor("sessions", "--owner", "ann").out
    assert all(each in told for each in ("a1", "a2", "asleep"))
    assert "b1" not in told


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    "act",
    [("hold", "--owner", "ann", "--reason", "case 7"), ("hold", "a2", "--reason", "case 7"), ("unhold", "a2")],
    ids=" ".join,
)
def test_a_session_asleep_stays_so_while_the_worker_has_something_to_do_for_it(
    services: Services, torpor: Torpor, act: tuple[str, ...]
) -> None:
    services.sessions.hold("a2", "case 6")
    torpor(*act)
    services.sessions.note_owner_holds(["a2", "a4"])  # as a hold of the owner leaves them until the next sweep
    assert set(services.sessions.sessions()) >= {"a2", "a4"}, "Redis has a note of them"
    of_ann = torpor("sessions", "--owner", "ann", "--json").lines
    asleep = [(each["session_id"], each["message_count"]) for each in of_ann if each["status"] == "asleep"]
    assert asleep == [("a2", 2), ("a4", 2)]
    assert set(ids(torpor, "--asleep")) == {"a2", "a4", "b2"}
    assert torpor("sessions", "--count-asleep").out == "asleep: 3 sessions\n"
    found = listing.find(services, "a2")
    assert isinstance(found, listing.AsleepSession)
    assert life(services, "a2").last_active == found.last_active


@pytest.mark.usefixtures("people")
def test_lists_can_be_narrowed(torpor: Torpor) -> None:
    assert sorted(ids(torpor)) == ["a1", "a3", "b1"]
    assert sorted(ids(torpor, "--asleep")) == ["a2", "a4", "b2"]
    assert ids(torpor, "--asleep", "--owner", "ann") == ["a2", "a4"]
    everything = ids(torpor, "--all")
    assert (sorted(everything[:3]), sorted(everything[3:])) == (["a1", "a3", "b1"], ["a2", "a4", "b2"])
    assert sorted(ids(torpor, "--all", "--prefix", "b")) == ["b1", "b2"]
    assert ids(torpor, "--owner", "ann", "--kind", "thread") == []
    assert len(ids(torpor, "--all", "--kind", "chat")) == 6


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_since_is_a_span_or_a_moment(
    client: redis.Redis, services: Services, sessions: SessionStore, torpor: Torpor
) -> None:
    sleep(client, services, "asleep")
    say(client, "awake")
    info = sessions.info("awake", owner=ANY_OWNER)
    assert info
    later = (info.last_active + timedelta(milliseconds=1)).isoformat()
    assert ids(torpor, "--owner", "ann", "--since", "1h") == ["asleep", "awake"]
    assert ids(torpor, "--owner", "ann", "--since", info.last_active.isoformat()) == ["awake"]
    assert ids(torpor, "--owner", "ann", "--since", later) == []
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    assert ids(torpor, "--all", "--since", tomorrow) == []


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("options", [["--owner", "ann"], [], ["--asleep"], ["--all"]], ids=" ".join)
@pytest.mark.parametrize("limit", [1, 2])
def test_pages_have_each_session_once(torpor: Torpor, options: list[str], limit: int) -> None:
    whole = ids(torpor, *options)
    assert len(whole) == len(set(whole)) > 2
    assert all_pages(torpor, *options, limit=limit) == whole


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_session_that_falls_asleep_or_wakes_between_two_pages_of_a_person_comes_once(
    services: Services, torpor: Torpor
) -> None:
    [first] = torpor("sessions", "--owner", "ann", "--limit", "1", "--json").lines
    assert torpor("archive", "a3").code == torpor("restore", "a2").code == torpor("archive", "a1").code == 0
    rest = torpor("sessions", "--owner", "ann", "--cursor", first["cursor"], "--json").lines
    assert [(each["session_id"], each["status"]) for each in rest] == [
        ("a2", "live"),
        ("a3", "asleep"),
        ("a4", "asleep"),
    ]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--cursor", "no.cursor"], "not a cursor"),
        (["--cursor", "owned.IQ==!"], "not a cursor"),
        (["--cursor", "owned.gA=="], "not a cursor"),
        (["--cursor", str(Cursor(Stretch.OWNED, "a1"))], "another list"),
        (["--owner", "ann", "--cursor", str(Cursor(Stretch.AWAKE, "a1"))], "another list"),
        (["--owner", ""], "owner"),
        (["--owner", "ann", "--all"], "--all can't be given with --owner"),
        (["--all", "--asleep"], "--asleep can't be given with --all"),
        (["--due", "--asleep"], "--due can't be given with --asleep"),
        (["--conflicts", "--owner", "ann"], "--conflicts"),
        (["--count-asleep", "--prefix", "a"], "--count-asleep"),
        (["--count-asleep", "--conflicts"], "--count-asleep"),
        (["--count-asleep", "--id", "a1"], "--id"),
        (["--since", "yesterday"], "neither a span"),
        (["--since", "999999w"], "before all time"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused(torpor: Torpor, options: list[str], word: str) -> None:
    done = torpor("sessions", *options)
    assert (done.code, done.out) == (2, "")
    assert word in done.err


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_nobody_has_no_sessions(torpor: Torpor) -> None:
    done = torpor("sessions", "--owner", "nobody")
    assert (done.code, done.err) == (0, "no such session of owner 'nobody'\n")


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_session_whose_metadata_is_foreign_is_named_and_the_others_are_listed(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    metadata = services.sessions.deployment.keyspace.of(b"a3").metadata(b"a3")
    assert raw(client, "DEL", metadata) == 1
    raw(client, "SET", metadata, "foreign")
    done = torpor("sessions", "--owner", "ann", "--json")
    assert [each["session_id"] for each in done.lines] == ["a1", "a2", "a4"]
    assert "a3" in done.err
    assert "torpor doctor" in done.err


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_control_characters_of_ids_and_owners_are_escaped_and_cursors_go_on(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    owner, names = "an\x1b[2Jn\u202e", ["s\x1b[2J", "s\n1", "s\u2028"]
    for name in names:
        sleep(client, services, name, owner=owner)
    told = torpor("sessions", "--owner", owner)
    assert not any(char in told.out + told.err for char in "\x1b\x9b\u202e\u2028")
    assert all_pages(torpor, "--owner", owner) == sorted(names)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_person_s_list_looks_at_no_session_of_others(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        say(client, f"other-{number}", owner="bob")
    sleep(client, services, "asleep")
    say(client, "awake")
    listed: list[str] = []
    whole = services.archive.list

    def noted(prefix: str, *, generations: bool = False) -> Iterator[StoredObject]:
        listed.append(prefix)
        return whole(prefix, generations=generations)

    monkeypatch.setattr(services.archive, "list", noted)
    [page] = listing.of_owner(services, "ann")
    assert [each.session_id for each in page] == ["asleep", "awake"]
    assert all("ann" in prefix or "asleep" in prefix for prefix in listed)
    assert len(listed) == 2


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize("lot", [1, 3, 1000])
def test_an_owner_of_more_sessions_than_are_sorted_at_a_time_gets_each_once(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch, lot: int
) -> None:
    monkeypatch.setattr(listing, "_SORTED", lot)
    names = [f"s{number}" for number in range(11)]
    for name in names:
        say(client, name)
    assert list(listing.owned(services, "ann")) == sorted(names)
    assert list(listing.owned(services, "ann", "s5")) == [each for each in sorted(names) if each > "s5"]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_walk_prints_what_it_finds_at_once_and_ctrl_c_says_how_to_go_on(
    client: redis.Redis, services: Services, torpor: Torpor, variables: dict[str, str]
) -> None:
    for number in range(30):
        say(client, f"s{number:02}")
    process = subprocess.Popen(
        [sys.executable, "-m", "torpor", "sessions", "--prefix", "s", "--rate", "1", "--json"],
        env=os.environ | {PREFIX + name: value for name, value in variables.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    printed = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    found = [json.loads(line)["session_id"] for line in [*printed, *out.splitlines()]]
    assert (process.returncode, 2 <= len(found) < 30) == (130, True)
    cursor = err.split("--cursor ")[1].split()[0]
    rest = ids(torpor, "--prefix", "s", "--cursor", cursor)
    assert sorted({*found, *rest}) == [f"s{number:02}" for number in range(30)]
    assert len(rest) in (30 - len(found), 31 - len(found))  # the last line may have been interrupted


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_walk_with_a_prefix_describes_only_sessions_that_have_it(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[str] = []
    whole = services.sessions.infos

    def noted(session_ids: Sequence[str]) -> list[SessionInfo | TorporError | None]:
        described.extend(session_ids)
        return whole(session_ids)

    monkeypatch.setattr(services.sessions, "infos", noted)
    pages = Search(prefix="a").pages(services, Pace(1_000_000))
    assert sorted(each.session_id for page in pages for each in page) == ["a1", "a2", "a3", "a4"]
    assert sorted(described) == ["a1", "a2", "a3", "a4"]


def test_cursors_are_read_as_they_are_written() -> None:
    cursor = Cursor(Stretch.AWAKE, "ü/\n😀")
    assert Cursor.parse(str(cursor)) == cursor


def test_infos_of_the_list_are_those_of_redis(client: redis.Redis, services: Services) -> None:
    chat(client, "s", owner="ann").add_messages([])
    say(client, "s")
    [page] = listing.of_owner(services, "ann")
    [info] = services.sessions.infos(["s"])
    assert isinstance(info, SessionInfo)
    assert [each.found for each in page] == [info]


# How many are asleep


@pytest.mark.usefixtures("people")
def test_a_count_of_those_asleep_is_shown_with_what_has_happened_since(
    client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    assert torpor("status", "--json").json["asleep"] is None
    assert "not counted; torpor sessions --count-asleep counts them" in torpor("status").said
    before = services.sessions.now()
    assert torpor("sessions", "--count-asleep").out == "asleep: 3 sessions\n"
    assert torpor("sessions", "--count-asleep", "--json").json == {"asleep": 3}
    sleep(client, services, "a5", "one", owner="ann")
    sleep(client, services, "a6", "one", owner="ann")
    assert torpor("restore", "a2").code == 0
    told = torpor("status", "--json").json["asleep"]
    assert (told["sessions"], told["fell_asleep"], told["woken"]) == (3, 2, 1)
    assert before <= datetime.fromisoformat(told["at"]) <= services.sessions.now()
    assert "3 as counted" in torpor("status").said
    assert "since then 2 fell asleep and 1 were woken" in torpor("status").said
    scraped = Exposition(lambda: services).text().decode()
    assert "torpor_sessions_asleep 3.0" in scraped
    assert torpor("sessions", "--count-asleep").out == "asleep: 4 sessions\n"


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (["--asleep"], True),
        (["--all", "--kind", "thread"], True),
        (["--asleep", "--limit", "1"], False),
        (["--asleep", "--prefix", "a"], False),
        (["--asleep", "--owner", "ann"], False),
        ([], False),
    ],
    ids=str,
)
def test_a_list_counts_those_asleep_if_it_has_seen_all_of_them(
    services: Services, torpor: Torpor, options: list[str], *, counts: bool
) -> None:
    assert torpor("sessions", *options).code == 0
    found = gather(services).asleep
    assert (found.sessions if found else None) == (3 if counts else None)
    assert "torpor_sessions_asleep 3.0" in Exposition(lambda: services).text().decode() or not counts


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_list_that_goes_on_after_a_cursor_counts_nothing(torpor: Torpor) -> None:
    first = torpor("sessions", "--asleep", "--limit", "1", "--json").lines
    assert len(torpor("sessions", "--asleep", "--cursor", first[0]["cursor"], "--json").lines) == 2
    assert torpor("status", "--json").json["asleep"] is None


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_count_of_those_asleep_outlives_the_notes_of_workers(services: Services, torpor: Torpor) -> None:
    assert torpor("sessions", "--count-asleep").code == 0
    raw(services.sessions.client, "HSET", seen_key("torpor"), "seen:asleep", 1)
    services.sessions.note_seen("worker:celery@new", {}, timedelta(days=1))
    assert torpor("status", "--json").json["asleep"]["sessions"] == 3
