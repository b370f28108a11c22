"""Compare the head of each Lua file with its body and with the calls of it: a head that lies is worse than none."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest
from redis.crc import key_slot

from support.foreign import LAYOUTS
from torpor.history import calls
from torpor.history.adoption import Adoption
from torpor.history.calls import KEEP, Call, Deployment
from torpor.history.compression import Compression
from torpor.history.expiry import Expiry
from torpor.history.fields import STORED, by_name
from torpor.history.formats.known import FORMATS
from torpor.history.keys import Keyspace
from torpor.history.outcomes import PurgeTarget, RebuiltMetadata, RestoreTicket
from torpor.history.overview import ArchiveNote, Identity, KindCounts
from torpor.history.policy import Policies
from torpor.history.scripts import all_scripts, named, script
from torpor.history.session import Lease, Origin, Page, SessionInfo, Status
from torpor.history.store import adoption, expiry, reading, returning, single_calls, sources

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DEPLOYMENT = Deployment(Keyspace("torpor", 256), max_age=HOUR)
SHARDS = [7, 8, 9]
EXPIRY = Expiry(idle=HOUR, max_age=HOUR, retention=HOUR)
LEASE = Lease("s", b"1700000000000.5", b"1600000000000.5", b"1500000000000")
TICKET = RestoreTicket("s", b"0a1b2c3d", 1, 0, datetime.now(UTC))
DOCUMENTS = FORMATS["langchain-redis"]
ADOPTION = Adoption("s", LAYOUTS["memorystore"], "0a1b2c3d", "4e5f", 500, 1_700_000_000_000)
UNOWNED = SessionInfo(
    session_id="s",
    status=Status.IN_WORK,
    epoch=1,
    created=MOMENT,
    last_active=MOMENT,
    last_written=MOMENT,
    due_at=MOMENT,
    idle_timeout=HOUR,
    max_age=None,
    expiry=EXPIRY,
    owner=None,
    message_count=3,
    restored_count=1,
    archived_count=1,
    complete=True,
    floor=None,
    attempts=1,
    error=None,
)
OWNED = SessionInfo(**{name: getattr(UNOWNED, name) for name in UNOWNED.__slots__} | {"owner": "ann"})

# Function of `calls` -> its calls: the first as large as can be, the second as small.
SAMPLES: dict[str, list[Call[Any]]] = {
    "configure": [
        calls.configure(
            "torpor",
            256,
            HOUR,
            HOUR,
            retention=HOUR,
            policies=Policies(),
            require_owner=True,
            compression=Compression.ZSTD,
            record=True,
        ),
        calls.configure(
            "torpor",
            256,
            None,
            KEEP,
            retention=KEEP,
            policies=None,
            require_owner=None,
            compression=None,
            record=False,
        ),
    ],
    "identify": [
        calls.identify("torpor", Identity("here:1/0"), "0a1b", None),
        calls.identify("torpor", Identity("here:1/0", "0a1b"), "0a1b", "file:///archive"),
    ],
    "move_fence": [
        calls.move_fence("torpor", "0a1b", "2c3d", keep=16),
        calls.move_fence("torpor", None, "2c3d", keep=16),
    ],
    "reserve": [calls.reserve(DEPLOYMENT, "j", 5.0, 100), calls.reserve(DEPLOYMENT, "j", 1e9, 1)],
    "note_epoch": [calls.note_epoch(DEPLOYMENT, 7, 9)],
    "append": [
        calls.append(DEPLOYMENT, "s", [b"{}", b"{}"], request=b"12345678", expiry=EXPIRY, owner="ann", only_new=True),
        calls.append(DEPLOYMENT, "s", [b"{}"], request=b"12345678"),
    ],
    "write_record": [
        calls.write_record(
            DEPLOYMENT,
            "s",
            calls.NewRecord("", "c", b"", "7:0", 3, interrupts=True),
            request=b"12345678",
            expiry=EXPIRY,
            owner="ann",
            only_known=True,
            interrupted_idle=HOUR,
        ),
        calls.write_record(DEPLOYMENT, "s", calls.NewRecord("", "c", b""), request=b"12345678"),
    ],
    "read_checkpoint": [
        calls.read_checkpoint(DEPLOYMENT, "s", "ns", "c", touch=True),
        calls.read_checkpoint(
            DEPLOYMENT, "s", "", None, touch=False, known=calls.KnownPlaces("7:0", 3, [(1, 0), (2, 1)])
        ),
    ],
    "rewrite": [
        calls.rewrite(DEPLOYMENT, "s", [b"\x01"] * 2, epoch=7, total=3, owner="ann", request=b"12345678"),
        calls.rewrite(DEPLOYMENT, "s", [], epoch=7, total=0, request=b"12345678"),
    ],
    "read": [
        calls.read(DEPLOYMENT, "s", 5, 9, 1024, touch=True),
        calls.read(DEPLOYMENT, "s", 0, None, 1024, touch=False),
    ],
    "info": [calls.info(DEPLOYMENT, "s")],
    "update": [
        calls.update(DEPLOYMENT, "s", "ann", idle=HOUR, max_age=None, retention=HOUR),
        calls.update(DEPLOYMENT, "s", None, idle=KEEP, max_age=KEEP, retention=KEEP),
    ],
    "close": [calls.close(DEPLOYMENT, "s")],
    "clear": [
        calls.clear(DEPLOYMENT, "s", request=b"12345678", owner="ann"),
        calls.clear(DEPLOYMENT, "s", request=b"12345678"),
    ],
    "pop": [
        calls.pop(DEPLOYMENT, "s", Page(7, 0, 3, 2, [b"{}"]), request=b"12345678", owner="ann"),
        calls.pop(DEPLOYMENT, "s", Page(7, 0, 0, 0, []), request=b"12345678"),
    ],
    "due": [calls.due(DEPLOYMENT, [7]), calls.due(DEPLOYMENT, SHARDS)],
    "poll_shards": [calls.poll_shards(DEPLOYMENT, [7], HOUR), calls.poll_shards(DEPLOYMENT, SHARDS, HOUR)],
    "overview": [calls.overview(DEPLOYMENT, 7)],
    "list_sessions": [
        calls.list_sessions(DEPLOYMENT, 7, b"0", 500),
        calls.list_sessions(DEPLOYMENT, 7, b"0", 500, quarantined=True),
    ],
    "claim": [calls.claim(DEPLOYMENT, [7], 10, HOUR), calls.claim(DEPLOYMENT, SHARDS, 10, HOUR)],
    "archive_health": [calls.archive_health(DEPLOYMENT)],
    "figures": [calls.figures(DEPLOYMENT, [7], 10), calls.figures(DEPLOYMENT, SHARDS, 10)],
    "kinds": [calls.kinds(DEPLOYMENT, 7)],
    "set_kinds": [calls.set_kinds(DEPLOYMENT, 7, KindCounts(4, 3, 2, 1), 1, 1)],
    "note_kinds_counted": [calls.note_kinds_counted(DEPLOYMENT)],
    "waiting_since": [calls.waiting_since(DEPLOYMENT, "s")],
    "count_owned": [
        calls.count_owned(DEPLOYMENT, [7], "ann"),
        calls.count_owned(DEPLOYMENT, SHARDS, "ann"),
    ],
    "count_holds": [calls.count_holds(DEPLOYMENT, [7]), calls.count_holds(DEPLOYMENT, SHARDS)],
    "note_seen": [calls.note_seen(DEPLOYMENT, "beat", {"version": "1"}, HOUR)],
    "measures": [calls.measures(DEPLOYMENT)],
    "add_sample": [calls.add_sample(DEPLOYMENT, {"live": 1}, least=HOUR, keep=10)],
    "samples": [calls.samples(DEPLOYMENT, HOUR, "", 10), calls.samples(DEPLOYMENT, HOUR, "1-0", 10)],
    "claimed": [calls.claimed(DEPLOYMENT, 7, 10)],
    "nearest": [calls.nearest(DEPLOYMENT, 7, 10)],
    "end_election": [calls.end_election(DEPLOYMENT, [7]), calls.end_election(DEPLOYMENT, SHARDS)],
    "claim_one": [calls.claim_one(DEPLOYMENT, "s", HOUR)],
    "snapshot": [calls.snapshot(DEPLOYMENT, LEASE, 512), calls.snapshot(DEPLOYMENT, LEASE, 512, only_first=True)],
    "renew": [calls.renew(DEPLOYMENT, LEASE, HOUR)],
    "commit": [calls.commit(DEPLOYMENT, LEASE, OWNED), calls.commit(DEPLOYMENT, LEASE, UNOWNED)],
    "reindex": [calls.reindex(DEPLOYMENT, "s")],
    "rebuild_metadata": [calls.rebuild_metadata(DEPLOYMENT, "s", RebuiltMetadata(3, 1, 2, 2, complete=True))],
    "rejoin": [calls.rejoin(DEPLOYMENT, OWNED, 2)],
    "repack": [
        calls.repack(DEPLOYMENT, "s", [(0, b"{}", b"a"), (1, b"{}", b"b")]),
        calls.repack(DEPLOYMENT, "s", [(5, b"a", b"{}")]),
    ],
    "requeue": [calls.requeue(DEPLOYMENT, "s")],
    "release": [
        calls.release(DEPLOYMENT, LEASE, HOUR, counted=True, error="why"),
        calls.release(DEPLOYMENT, LEASE, None, counted=False, error=""),
    ],
    "note_erased": [calls.note_erased(DEPLOYMENT, LEASE, 1), calls.note_erased(DEPLOYMENT, LEASE, 1, HOUR)],
    "begin_restore": [calls.begin_restore(DEPLOYMENT, "s", HOUR, alone=True, token=b"0a1b")],
    "stage": [calls.stage(DEPLOYMENT, TICKET, 0, [b"{}"], HOUR), calls.stage(DEPLOYMENT, TICKET, 0, [], HOUR)],
    "finish_restore": [
        calls.finish_restore(DEPLOYMENT, TICKET, 3, Origin(MOMENT, EXPIRY, "ann"), remember=HOUR),
        calls.finish_restore(DEPLOYMENT, TICKET, 3, Origin()),
    ],
    "add_events": [
        calls.add_events(
            DEPLOYMENT,
            [{"kind": "session.archived", "session": "s"}] * 2,
            keep=9,
            note=ArchiveNote("celery@host", "the bucket is away"),
        ),
        calls.add_events(DEPLOYMENT, [], keep=9, note=ArchiveNote("celery@host")),
        calls.add_events(DEPLOYMENT, [{"kind": "session.archived", "session": "s"}], keep=9),
    ],
    "abandon": [calls.abandon(DEPLOYMENT, TICKET)],
    "peek_list": [
        calls.peek_list("torpor", "s", layout, 0, page_bytes=1024, max_bytes=4096) for layout in LAYOUTS.values()
    ],
    "begin_adoption": [
        calls.begin_adoption(DEPLOYMENT, ADOPTION, owner="ann", allow_reuse=True, only_known=True),
        calls.begin_adoption(DEPLOYMENT, ADOPTION, owner=None, allow_reuse=False),
    ],
    "take_list": [calls.take_list("torpor", "s", LAYOUTS["memorystore"], "4e5f", 3)],
    "adopt": [
        calls.adopt(DEPLOYMENT, ADOPTION, ADOPTION, [b"{}"], expiry=EXPIRY, owner="ann", allow_reuse=True),
        calls.adopt(DEPLOYMENT, ADOPTION, ADOPTION, [b"{}"], expiry=Expiry(), owner=None, allow_reuse=False),
    ],
    "find_documents": [
        calls.find_documents("torpor", "{s}", DOCUMENTS, b""),
        calls.find_documents("torpor", "{s}", DOCUMENTS, b"17"),
    ],
    "peek_documents": [calls.peek_documents("{s}", DOCUMENTS, [b"chat:{s}:1"], 0, page_bytes=1024, max_bytes=4096)],
    "take_documents": [calls.take_documents("torpor", "{s}", DOCUMENTS, "4e5f", [b"chat:{s}:1"])],
    "delete_companion": [calls.delete_companion(b"agents:session:s", "hash")],
    "delete_taken": [calls.delete_taken("torpor", "s", LAYOUTS["memorystore"], "4e5f")],
    "end_adoption": [calls.end_adoption(DEPLOYMENT, ADOPTION)],
    "adoptions": [calls.adoptions(DEPLOYMENT, 7)],
    "stage_return": [calls.stage_return("torpor", b"s", b"4e5f", [b"{}", b"{}"], staged=0, lease=HOUR)],
    "give_back": [calls.give_back("torpor", b"s", b"4e5f", 2, ttl) for ttl in (HOUR, None)],
    "purge": [
        calls.purge(DEPLOYMENT, PurgeTarget("s", "ann", ["ann", "bob"]), "p", tombstone=HOUR, idle=HOUR),
        calls.purge(DEPLOYMENT, PurgeTarget("s"), "p", tombstone=HOUR, idle=None),
    ],
    "rebase": [
        calls.rebase(DEPLOYMENT, PurgeTarget("s", "ann", ["ann", "bob"]), idle=HOUR, epoch=7),
        calls.rebase(DEPLOYMENT, PurgeTarget("s"), idle=None),
    ],
    "drop_live": [
        calls.drop_live(DEPLOYMENT, LEASE, epoch=1, idle=HOUR, seen_owner="ann"),
        calls.drop_live(DEPLOYMENT, LEASE, epoch=1, idle=None, seen_owner=None),
    ],
    "assign_owner": [calls.assign_owner(DEPLOYMENT, "s", "ann", archived=each) for each in (True, False)],
    "owned": [calls.owned(DEPLOYMENT, 7, "ann", b"0", 500)],
    "set_aside": [
        calls.set_aside(DEPLOYMENT, "s", epoch=7, owner="ann"),
        calls.set_aside(DEPLOYMENT, "s", epoch=7, owner=None),
    ],
    "hold": [calls.hold(DEPLOYMENT, "s", "why")],
    "release_hold": [calls.release_hold(DEPLOYMENT, "s")],
    "note_owner_hold": [calls.note_owner_hold(DEPLOYMENT, "s")],
    "hold_owner": [calls.hold_owner(DEPLOYMENT, 7, "ann", "why"), calls.hold_owner(DEPLOYMENT, 7, "ann", None)],
    "list_holds": [
        calls.list_holds(DEPLOYMENT, 7, b"0", 500),
        calls.list_holds(DEPLOYMENT, 7, b"0", 500, owners_alone=True),
    ],
    "holds_of": [calls.holds_of(DEPLOYMENT, "s", ["ann"]), calls.holds_of(DEPLOYMENT, "s", [])],
    "owner_holds_in": [calls.owner_holds_in(DEPLOYMENT, 7, ["ann"])],
    "note_owner_release": [calls.note_owner_release(DEPLOYMENT, "ann", MOMENT)],
    "find_release": [calls.find_release(DEPLOYMENT, "s")],
    "find_owner_release": [calls.find_owner_release(DEPLOYMENT, "ann")],
    "find_owner_hold": [calls.find_owner_hold(DEPLOYMENT, "s", ["ann", "bob"])],
    "find_hold": [calls.find_hold(DEPLOYMENT, "s", ["ann"]), calls.find_hold(DEPLOYMENT, "s", [])],
    "note_hold_applied": [calls.note_hold_applied(DEPLOYMENT, LEASE, OWNED)],
}
CALLS = [pytest.param(call, id=f"{name}-{n}") for name, many in SAMPLES.items() for n, call in enumerate(many)]

LUA_FOLDER = files("torpor.history") / "lua"
SCRIPTS = [each.name for each in all_scripts()]
INCLUDES = sorted(path.name.removesuffix(".lua") for path in (LUA_FOLDER / "lib").iterdir())
LUA = [*SCRIPTS, *(f"lib/{name}" for name in INCLUDES)]

# What the end of a key's name says about its type (see history/keys.py).
TYPES = [
    (rb"torpor:job:j:rate", "string"),
    (rb"agents:session:s", "any"),
    (rb"torpor:config|\{torpor:events\}:(archive|measures|seen)", "hash"),
    (rb"torpor:events|\{torpor:events\}:samples", "stream"),
    (rb"\{torpor:\d+\}:(due|q)", "zset"),
    (rb"\{torpor:\d+\}:(t|h|a)", "hash"),
    (rb"\{torpor:\d+\}:l", "string"),
    (rb"\{torpor:\d+\}:m:(conflict:7\.\d+:)?s", "list"),
    (rb"\{torpor:\d+\}:[si]:(conflict:7\.\d+:)?s", "hash"),
    (rb"\{torpor:\d+\}:w:s", "string"),
    (rb"\{torpor:\d+\}:o:ann", "set"),
    (rb"\{torpor:\d+\}:r:0a1b2c3d:s", "list"),
    (rb"s|message_store:s", "list"),
    (rb"chat:\{s\}:1", "document"),
    (rb"torpor:adopting:\{s\}:chat:\{s\}:\*", "list"),
    (rb"torpor:adopting:\{(.+)\}:\1", "list"),
    (rb"torpor:returning:\{s\}:4e5f:s", "list"),
]


@dataclass
class Head:
    """The comment lines at the top of a Lua file."""

    lines: list[str]

    def numbered(self, what: str) -> list[tuple[str, str]]:
        """(number, description) of each KEYS or ARGV line; the number may end in '...'."""
        found = (re.fullmatch(rf"-- {what}\[(\d+(?:\.\.\.)?)\] (.+)", line) for line in self.lines)
        return [(match[1], match[2]) for match in found if match]

    @property
    def of_each_shard(self) -> bool:
        """Are KEYS those of one shard after the other?"""
        return "-- KEYS of each shard:" in self.lines

    @property
    def optional_keys(self) -> int:
        return sum("present only with" in text for _, text in self.numbered("KEYS"))


def lua(name: str) -> str:
    return (LUA_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def head_of(name: str) -> Head:
    lines: list[str] = []
    for line in lua(name).splitlines():
        if not line.startswith("--"):
            break
        lines.append(line)
    return Head(lines)


def body_of(name: str) -> str:
    lines = (line.partition(" -- ")[0] for line in lua(name).splitlines())
    return "\n".join(line for line in lines if not line.strip().startswith("--"))


def defined_in(include: str) -> set[str]:
    """The functions and constants that an include offers."""
    return set(re.findall(r"^local (?:function )?(\w+)", body_of(f"lib/{include}"), re.MULTILINE))


def uses(name: str) -> set[str]:
    """The includes whose functions or constants stand in the body of a Lua file, without itself."""
    words = set(re.findall(r"(?<![.\w'])\w+(?!['\w])", body_of(name)))
    return {include for include in INCLUDES if words & defined_in(include) and name != f"lib/{include}"}


def fields_of_sessions(name: str) -> set[str]:
    """The fields of a session that a Lua file reads, itself or in the functions to which it passes the session."""
    fields = set(re.findall(r"\bsession\.(\w+)", body_of(name)))
    for include in uses(name):
        given = re.findall(r"function (\w+)\([^)]*\bsession\b[^)]*\)", body_of(f"lib/{include}"))
        if any(f"{function}(" in body_of(name) for function in given):
            fields |= fields_of_sessions(f"lib/{include}")
    return fields


def counts(numbered: Sequence[tuple[str, str]]) -> list[int]:
    return [int(number.removesuffix("...")) for number, _ in numbered]


def keys_in_turn(call: Call[Any]) -> list[Sequence[bytes]]:
    """The keys of a call, or those of each of its shards."""
    head = head_of(call.script.name)
    width = len(head.numbered("KEYS")) if head.of_each_shard else len(call.keys)
    return [call.keys[first : first + width] for first in range(0, len(call.keys), width)]


def key_type(key: bytes) -> str:
    [found] = [type_ for pattern, type_ in TYPES if re.fullmatch(pattern, key)]
    return found


def test_every_operation_has_a_sample_here() -> None:
    def makes_a_call(value: object) -> bool:
        return inspect.isfunction(value) and value.__module__.startswith(f"{calls.__name__}.")

    operations: list[tuple[str, Callable[..., Any]]] = inspect.getmembers(calls, makes_a_call)
    returning = {name for name, each in operations if str(each.__annotations__["return"]).startswith("Call[")}
    assert returning == set(SAMPLES)


def test_every_lua_file_is_the_script_of_an_operation() -> None:
    assert {path.name for path in LUA_FOLDER.iterdir()} == {"lib", *(f"{name}.lua" for name in SCRIPTS)}
    assert {call.script.name for many in SAMPLES.values() for call in many} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_head_says_what_the_script_is_for_and_what_it_returns(name: str) -> None:
    head = head_of(name)
    assert re.match(r"-- [A-Z].+[.:;,\w]$", head.lines[0])
    assert not head.lines[0].startswith(("-- KEYS", "-- ARGV", "-- Returns"))
    assert len([line for line in head.lines if re.match(r"-- Returns? \S", line)]) == 1


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("what", ["KEYS", "ARGV"])
def test_a_head_counts_without_gaps_and_the_body_uses_nothing_beyond(name: str, what: str) -> None:
    numbered = head_of(name).numbered(what)
    documented = counts(numbered)
    assert documented == list(range(1, len(numbered) + 1))
    assert not [number for number, _ in numbered[:-1] if number.endswith("...")]
    used = {int(number) for number in re.findall(rf"{what}\[(\d+)\]", body_of(name))}
    if f"#{what}" in body_of(name) and numbered[-1][0].endswith("..."):
        used.add(documented[-1])
    assert used <= set(documented)
    if what == "KEYS":
        assert used == set(documented)


@pytest.mark.parametrize("call", CALLS)
def test_a_caller_passes_the_keys_of_the_head_in_their_order(call: Call[Any]) -> None:
    head = head_of(call.script.name)
    types = [text.split()[0] for _, text in head.numbered("KEYS")]
    for keys in keys_in_turn(call):
        assert len(types) - head.optional_keys <= len(keys) <= len(types)
        assert [key_type(key) for key in keys] == types[: len(keys)]


@pytest.mark.parametrize("call", CALLS)
def test_a_caller_passes_the_arguments_of_the_head(call: Call[Any]) -> None:
    numbered = head_of(call.script.name).numbered("ARGV")
    if numbered and numbered[-1][0].endswith("..."):
        assert len(call.args) >= len(numbered) - 1
    else:
        assert len(call.args) == len(numbered)
    assert all(isinstance(argument, bytes | int) and not isinstance(argument, bool) for argument in call.args)


@pytest.mark.parametrize("name", [name for name, many in SAMPLES.items() if head_of(many[0].script.name).optional_keys])
def test_a_key_that_may_be_missing_is_the_last_and_is_passed_only_with_an_owner(name: str) -> None:
    with_owner, without = SAMPLES[name]
    head = head_of(with_owner.script.name)
    assert "present only with an owner" in head.numbered("KEYS")[-1][1]
    assert len(with_owner.keys) == len(head.numbered("KEYS")) == len(without.keys) + 1
    assert with_owner.keys[-1].endswith(b":o:ann")


@pytest.mark.parametrize("call", CALLS)
def test_all_keys_of_a_call_are_in_one_slot_or_those_of_each_shard_are(call: Call[Any]) -> None:
    slots = [{key_slot(key) for key in keys} for keys in keys_in_turn(call)]
    assert {len(each) for each in slots} == {1}
    assert len(set.union(*slots)) == len(slots)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_touches_no_key_that_it_was_not_given(name: str) -> None:
    commands = re.findall(r"redis\.p?call\('([A-Z]+)'(?:, ([^,)]+))?", body_of(name))
    walking = {"SCAN"} if name == "find_documents" else set()  # the keys that it finds, on a server of one node
    assert {
        key for command, key in commands if command not in {"TIME", *walking} and not key.startswith("KEYS[")
    } == set()


@pytest.mark.parametrize("name", [name for name in SCRIPTS if head_of(name).of_each_shard])
def test_a_script_of_several_shards_takes_as_many_keys_of_each_as_its_head_says(name: str) -> None:
    [width] = re.findall(r"each_shard\((\d+), function\(KEYS\)", body_of(name))
    assert int(width) == len(head_of(name).numbered("KEYS"))


@pytest.mark.parametrize("name", LUA)
def test_a_head_names_exactly_the_includes_that_the_body_uses(name: str) -> None:
    named_there = named("\n".join(head_of(name).lines), "Uses")
    assert named_there == sorted(uses(name))
    assert named(lua(name), "Uses") == named_there


@pytest.mark.parametrize("name", LUA)
def test_a_head_names_exactly_the_fields_that_the_body_reads_of_a_session(name: str) -> None:
    reads = named("\n".join(head_of(name).lines), "Reads")
    assert bool(reads) == ("read_session(" in body_of(name))
    if reads:
        assert sorted(reads) == sorted(fields_of_sessions(name))


@pytest.mark.parametrize("name", INCLUDES)
def test_an_include_says_what_it_is_for_and_defines_names_that_no_other_has(name: str) -> None:
    assert re.match(r"-- [A-Z].+[.,]", head_of(f"lib/{name}").lines[0])
    assert defined_in(name)
    assert not any(defined_in(name) & defined_in(other) for other in INCLUDES if other != name)


def test_every_include_is_used_and_none_uses_itself_by_way_of_others() -> None:
    beneath = {name: uses(f"lib/{name}") for name in INCLUDES}
    assert set.union(*map(uses, LUA)) == set(INCLUDES)
    while ready := {name for name, used in beneath.items() if not used & beneath.keys()}:
        beneath = {name: used for name, used in beneath.items() if name not in ready}
    assert not beneath


def test_a_script_has_each_function_that_it_needs_once_and_after_those_that_it_calls_itself() -> None:
    needed = {
        "append": "read_us clock_us to_ms clock_ms int is_lease set_due due_at schedule reschedule highest_epoch "
        "next_epoch is_record is_other_kind kinds_field note_came named_owner refused_caller may_be_asleep push "
        "RETRY_WINDOW_S is_recent with_request refuses_writes refusal add complete_session delete_outdated_fields "
        "write_messages",
        "close": "read_us clock_us to_ms clock_ms set_due allow_at_memory_limit named_owner refused_caller "
        "may_be_asleep",
        "renew": "owns_lease allow_at_memory_limit",
        "adoptions": "",
    }
    for name, functions in needed.items():
        sent = script(name).source.decode()
        before_body = sent[: sent.index(lua(name).splitlines()[0])]
        found = re.findall(r"^local (?:function )?(\w+)", before_body, re.MULTILINE)
        assert [each for each in found if each != "read_session"] == functions.split()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_calls_only_what_is_defined_before(name: str) -> None:
    sent = re.sub(r"--.*", "", script(name).source.decode())
    for function in set.union(*map(defined_in, INCLUDES)):
        if calls_of_it := re.search(rf"\b{function}\(", sent.replace(f"local function {function}(", "")):
            assert 0 <= sent.find(f"local function {function}(") <= calls_of_it.start()


@pytest.mark.parametrize("name", LUA)
def test_a_script_takes_the_names_of_a_sessions_fields_from_the_table(name: str) -> None:
    keys = [number for number, text in head_of(name).numbered("KEYS") if text.split() == ["hash", "metadata"]]
    metadata = "|".join([r"[\w.]*metadata\w*", *(rf"KEYS\[{number}\]" for number in keys)])
    passed = re.findall(rf"redis\.call\('H[A-Z]+', (?:{metadata})((?:,\s+[^,)]+)+)", body_of(name))
    assert set(re.findall(r"'(\w+)'", "".join(passed))) <= {"0", "1", "purged", "quarantined"}


def test_due_moments_are_decided_in_one_place_and_other_scripts_have_a_fixed_one() -> None:
    """`due_at` decides from what the session is; these scripts are about the moment itself."""
    names_one = {
        "close": "now",
        "clear": "now, to erase the archive",
        "pop": "now, to erase the archive",
        "rewrite": "now, to erase the archive",
        "rebase": "now, to erase the archive",
        "lib/write": "now, to erase the archive of a session whose tombstone ends",
        "purge": "the end of the tombstone",
        "note_erased": "the next look at the archive",
        "finish_restore": "the end of the memory that the session is nowhere",
        "release": "after a delay",
        "requeue": "now",
        "set_aside": "now",
        "rebuild_metadata": "now",
    }
    leases = {"claim", "claim_one", "renew"}
    assert {name for name in LUA if "set_due(" in body_of(name)} - {"lib/due"} == names_one.keys()
    of_due_keys = ((name, *key) for name in LUA for key in head_of(name).numbered("KEYS"))
    adding = {
        name
        for name, number, text in of_due_keys
        if text.endswith("due") and f"'ZADD', KEYS[{number}]" in body_of(name)
    }
    assert adding == leases


def test_every_field_of_a_session_is_used_by_a_script_and_is_stored_under_a_name_of_its_own() -> None:
    used = {field for name in LUA for field in re.findall(r"\bFIELD\.(\w+)", body_of(name))}
    assert used | {field for name in LUA for field in named(lua(name), "Reads")} == STORED.keys()
    assert len(set(STORED.values())) == len(STORED)


def test_python_and_lua_call_a_stored_field_by_the_same_name() -> None:
    assert by_name([b"again", b"7", b"unknown", b"1", b"base", b"2"]) == {"recheck_at": b"7", "restored_count": b"2"}
    sent = script("begin_adoption").source.decode()
    assert "redis.call('HMGET', metadata_key, 'owner', 'state', 'until', 'whole')" in sent
    assert "local refused = refused_caller(session[1], ARGV[3], KEYS[4])" in sent
    sent = script("stage").source.decode()
    assert "redis.call('HSET', KEYS[2], 'restoring_until', session[2])" in sent
    assert "FIELD." not in sent


def test_a_script_is_known_by_the_sha1_of_what_is_sent() -> None:
    loaded = script("append")
    assert loaded.source.endswith(lua("append").encode())
    assert hashlib.sha1(loaded.source, usedforsecurity=False).hexdigest() == loaded.sha
    assert re.fullmatch("[0-9a-f]{40}", loaded.sha)
    assert script("append") is loaded
    assert len({script(name).sha for name in SCRIPTS}) == len(SCRIPTS)


# What an application's operations run without a caller: under the token of a restore that a caller has begun, on the
# other library's keys, and what compares owners itself.
WITHOUT_A_CALLER = {"stage", "finish_restore", "abandon", "peek_list", "take_list", "delete_taken", "end_adoption"}
WITHOUT_A_CALLER |= {"delete_companion", "find_documents", "peek_documents", "take_documents"}
WITHOUT_A_CALLER |= {"add_events", "assign_owner", "set_aside", "stage_return", "give_back", "configure"}


def test_every_script_that_an_application_runs_on_a_session_decides_whether_the_caller_may_use_it() -> None:
    modules = [inspect.getsource(module) for module in (single_calls, reading, expiry, adoption, returning, sources)]
    run = {name for source in modules for name in re.findall(r"\bcalls\.(\w+)", source)} & SAMPLES.keys()
    assert run >= WITHOUT_A_CALLER - {"configure"}
    for name in run - WITHOUT_A_CALLER:
        assert "owner" in inspect.signature(getattr(calls, name)).parameters, name
        scripts = {call.script.name for call in SAMPLES[name]}
        for each in scripts:
            assert "refused_caller(" in body_of(each) + body_of("lib/write") * ("write" in uses(each)), each
