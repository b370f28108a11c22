"""Object names: as documented, different for any two sessions, and readable back."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torpor.worker.archive import names
from torpor.worker.archive.names import FloorName, SegmentName

SEGMENT = SegmentName(epoch=1_700_000_000_000_000, start=10, stop=25, digest="0123abcd")
STRANGE = [
    "plain-id_1.2~3",
    "/",
    "a/b",
    "a%2Fb",
    "a%252Fb",
    ".",
    "..",
    "%2E",
    "%2E.",
    "../../etc/passwd",
    ".hidden",
    "a\nb",
    "a\r\nb",
    "a\x00b",
    "{torpor:1}:m:x",
    "a b",
    "a+b",
    "a=b",
    "?x#y",
    "😀",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "owners",
    "v1",
    "floor",
    "sha256=" + hashlib.sha256(b"x").hexdigest(),
    "x" * 200,
    "x" * 201,
    "x" * 1024,
    "y" * 1024,
    "😀" * 256,
    "." + "x" * 199,
]
# As history takes them: text with a UTF-8 form of 1 to 1,024 bytes.
session_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300).filter(lambda s: len(s.encode()) <= 1024)
segment_names = st.builds(
    SegmentName,
    epoch=st.integers(0, 2**53),
    start=st.integers(0, 10**9),
    stop=st.integers(0, 10**9),
    digest=st.text("0123456789abcdef", min_size=8, max_size=8),
)


def spread(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:2]


def test_names_are_those_of_the_design() -> None:
    hh = spread("chat/1")
    assert names.session_prefix("chat/1") == f"v1/{hh}/chat%2F1/"
    assert names.segment_name("chat/1", SEGMENT) == f"v1/{hh}/chat%2F1/1700000000000000/10-25-0123abcd.jsonl.gz"
    assert names.floor_name("chat/1", 17) == f"v1/{hh}/chat%2F1/17/floor"
    assert names.owner_marker("ann@x", "chat/1", 7) == f"v1/owners/{spread('ann@x')}/ann%40x/chat%2F1/7"


def test_an_id_that_is_too_long_for_a_file_name_goes_by_its_sha256() -> None:
    for long in ("x" * 201, "😀" * 17, "/" * 67):
        assert names.session_prefix(long).split("/")[2] == "sha256=" + hashlib.sha256(long.encode()).hexdigest()
    assert names.session_prefix("x" * 200).split("/")[2] == "x" * 200
    assert names.session_prefix("😀" * 16).split("/")[2] == "%F0%9F%98%80" * 16


def test_prefixes_spread_over_the_bucket() -> None:
    assert len({names.session_prefix(f"chat-{number}").split("/")[1] for number in range(5_000)}) == 256


@pytest.mark.parametrize("session_id", STRANGE)
def test_a_strange_id_gives_a_name_that_every_store_can_hold(session_id: str) -> None:
    name = names.segment_name(session_id, SEGMENT)
    root, hh, component, epoch, file = name.split("/")
    assert (root, hh, epoch, file) == ("v1", spread(session_id), "1700000000000000", "10-25-0123abcd.jsonl.gz")
    assert re.fullmatch(r"(?!\.)[A-Za-z0-9_.~%=-]{1,200}", component)
    assert len(names.owner_marker(session_id, session_id, 2**53)) < 500


def test_strange_ids_stay_apart() -> None:
    prefixes = [names.session_prefix(session_id) for session_id in STRANGE]
    assert len(set(prefixes)) == len(STRANGE)
    for one in prefixes:
        assert [other for other in prefixes if other.startswith(one)] == [one]


@given(one=session_ids, other=session_ids)
@example(one="a", other="a/1")
@example(one="a", other="a%2F1")
@example(one=".", other="%2E")
@example(one="x" * 201, other="sha256=" + hashlib.sha256(b"x" * 201).hexdigest())
def test_the_prefix_of_one_session_never_begins_that_of_another(one: str, other: str) -> None:
    first, second = names.session_prefix(one), names.session_prefix(other)
    assert (one == other) == (first == second)
    assert one == other or not (first.startswith(second) or second.startswith(first))


@given(owner=session_ids, one=session_ids, other=session_ids)
def test_owner_markers_stay_apart_from_each_other_and_from_every_session(owner: str, one: str, other: str) -> None:
    marker = names.owner_marker(owner, one, 7)
    assert (one == other) == (marker == names.owner_marker(owner, other, 7))
    assert (owner == other) == (marker == names.owner_marker(other, one, 7))
    assert names.marked_epoch(owner, one, marker) == 7
    assert one == other or names.marked_epoch(owner, other, marker) is None
    assert names.marked_epoch(owner, one, f"{marker}x") is None
    assert not marker.startswith(names.session_prefix(other))


@given(session_id=session_ids, name=segment_names)
def test_a_segment_name_is_read_back(session_id: str, name: SegmentName) -> None:
    assert names.parse(session_id, names.segment_name(session_id, name)) == name


@given(session_id=session_ids, floor=st.integers(0, 2**53))
def test_a_floor_name_is_read_back(session_id: str, floor: int) -> None:
    assert names.parse(session_id, names.floor_name(session_id, floor)) == FloorName(floor)


@given(session_id=session_ids, rest=st.text(st.sampled_from("0123456789abcdef-/.jsonlgzfrt\n٣"), max_size=40))
@example(session_id="s", rest="7/floor\n")
@example(session_id="s", rest="007/floor")
@example(session_id="s", rest="٣/floor")
@example(session_id="s", rest="7/00-1-0123abcd.jsonl.gz")
@example(session_id="s", rest="7/0-1-0123ABCD.jsonl.gz")
def test_what_is_read_is_what_would_be_written(session_id: str, rest: str) -> None:
    object_name = names.session_prefix(session_id) + rest
    parsed = names.parse(session_id, object_name)
    if isinstance(parsed, SegmentName):
        assert names.segment_name(session_id, parsed) == object_name
    elif isinstance(parsed, FloorName):
        assert names.floor_name(session_id, parsed.epoch) == object_name


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "7",
        "7/",
        "7/ceiling",
        "7/floor/",
        "x/floor",
        "-7/floor",
        "7/0-1-0123abcd.jsonl",
        "7/0-1-0123abcd.jsonl.gz.tmp",
        "7/0-1-0123abcde.jsonl.gz",
        "7/0-1-0123abcg.jsonl.gz",
        "7/0-0123abcd.jsonl.gz",
        "7/a-b-0123abcd.jsonl.gz",
        "7/8/0-1-0123abcd.jsonl.gz",
        "notes.txt",
    ],
)
def test_a_foreign_name_tells_nothing(rest: str) -> None:
    assert names.parse("s", names.session_prefix("s") + rest) is None


@pytest.mark.parametrize("session_id", ["s", "a/b", ".", "x" * 1024])
@pytest.mark.parametrize("wrong", [{}, {"session": "r"}, {"session": ""}])
def test_wrong_metadata_of_one_object_hides_no_session(session_id: str, wrong: dict[str, str]) -> None:
    folder, right = names.session_prefix(session_id), {"session": session_id}
    assert names.stored_session(folder, [wrong, right]) == session_id
    assert names.stored_session(folder + "more/", [wrong, right]) is None
    marker = names.owner_marker("ann", session_id, 7)
    assert names.marked_session("ann", marker, right) == session_id
    if len(session_id) < 200:
        assert names.stored_session(folder, [wrong]) == session_id
        assert names.marked_session("ann", marker, wrong) == session_id


def test_the_name_of_another_session_tells_nothing() -> None:
    assert names.parse("s", names.segment_name("t", SEGMENT)) is None
    assert names.parse("s", "7/floor") is None
    assert names.parse("s", names.owner_marker("ann", "s", 7)) is None
