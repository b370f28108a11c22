"""Damaged segments, gaps, overlaps and divergent segments: an error and nothing changed, or one transcript."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterable

import pytest
import redis

from support.observed import watch
from support.restoring import asleep, elements, everything, live, say, segments
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.worker.archive import contents, names
from torpor.worker.archive.segment import pack
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable, SegmentDamaged, SegmentMissing
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session


def replace(services: Services, stored: StoredObject, change: Callable[[bytes], bytes]) -> None:
    """Change an object's bytes behind Torpor's back."""
    with services.archive.open(stored) as body:
        changed = change(body.read())
    services.archive.delete(stored)
    services.archive.put(stored.name, io.BytesIO(changed), len(changed), metadata=stored.metadata)


def diverge(services: Services, epoch: int, start: int, messages: Iterable[bytes]) -> str:
    """Archive a segment, later than all others, as a worker does whose Redis was rewound."""
    newest = max(stored.generation for stored in services.archive.list(""))

    def clock() -> bool:
        probe = services.archive.put("probe", io.BytesIO(), 0, metadata={})
        services.archive.delete(probe)
        return probe.generation > newest

    wait_until(clock)  # a folder's clock moves in steps
    packed = pack("s", epoch, start, 0, [list(messages)])
    name = names.segment_name("s", packed.name)
    with packed.body:
        services.archive.put(name, packed.body, packed.size, metadata={"sha256": packed.sha256, "session": "s"})
    return name


# What is damaged


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 1]) + data[41:]


def emptied(data: bytes) -> bytes:
    return b""


def rewritten(data: bytes) -> bytes:
    return gzip.compress(gzip.decompress(data).replace(b"message 5", b"massage 5"), mtime=0)


@pytest.mark.parametrize("awake", [0, 2])
@pytest.mark.parametrize("damage", [truncated, flipped, emptied, rewritten])
def test_a_damaged_segment_is_named_and_changes_nothing(
    client: redis.Redis, services: Services, damage: Callable[[bytes], bytes], awake: int
) -> None:
    asleep(services, 4, 5, 3)
    if awake:
        say(services, 12, awake)
    bad = segments(services)[1]
    replace(services, bad, damage)
    before = everything(client)
    for reading in (restore_session, read_transcript):
        with pytest.raises(SegmentDamaged, match=re.escape(f"{services.archive.url}/{bad.name} is damaged")):
            reading(services, "s")
        assert everything(client) == before


@pytest.mark.parametrize("awake", [0, 2])
def test_a_missing_segment_is_a_gap_that_is_named(client: redis.Redis, services: Services, awake: int) -> None:
    said = say(services, 0, 4)
    for _ in range(2):  # three segments of one epoch
        watched, points = watch(services)
        points.at("before commit batch", lambda: said.extend(say(services, len(said), 5)))
        archive_session(watched, "s")
    archive_session(services, "s")
    if awake:
        say(services, 14, awake)
    first, second, third = segments(services)
    services.archive.delete(second)
    before = everything(client)
    for reading in (restore_session, read_transcript):
        with pytest.raises(SegmentMissing, match=rf"messages 4 to 8 of epoch \d+ are missing before {third.name}"):
            reading(services, "s")
        assert everything(client) == before
    services.archive.delete(first)
    with pytest.raises(SegmentMissing, match=r"messages 0 to 8 of epoch \d+ are missing"):
        restore_session(services, "s")


@pytest.mark.parametrize("with_metadata", [True, False])
def test_a_segment_of_another_session_is_named_and_changes_nothing(
    client: redis.Redis,
    services: Services,
    with_metadata: bool,  # noqa: FBT001
) -> None:
    asleep(services, 4)
    asleep(services, 4, session_id="t")
    [foreign] = segments(services, "t")
    copied = names.session_prefix("s") + foreign.name.removeprefix(names.session_prefix("t"))
    with services.archive.open(foreign) as body:
        data = body.read()
    services.archive.put(copied, io.BytesIO(data), len(data), metadata=foreign.metadata if with_metadata else {})
    before = everything(client)
    for reading in (restore_session, read_transcript):
        with pytest.raises(SegmentDamaged, match=re.escape(f"{copied} is damaged: it belongs to another session")):
            reading(services, "s")
        assert everything(client) == before
    assert restore_session(services, "t").messages == 4


@pytest.mark.parametrize("field", ["created", "idle_ms", "max_age_ms", "base"])
def test_metadata_that_makes_no_sense_changes_nothing(client: redis.Redis, services: Services, field: str) -> None:
    asleep(services, 4)
    [stored] = segments(services)
    services.archive.delete(stored)
    with pack("s", 17, 0, 0, [elements(0, 4)]).body as body:
        data = body.read()
    name = stored.name
    services.archive.put(name, io.BytesIO(data), len(data), metadata={**stored.metadata, field: "yesterday"})
    before = everything(client)
    with pytest.raises(SegmentDamaged, match=re.escape(name)):
        restore_session(services, "s")
    assert everything(client) == before


def test_foreign_objects_beside_the_segments_are_left_alone(services: Services) -> None:
    said = asleep(services, 4)
    for name in ("notes.txt", "7/notes.txt", "7/0-1-zzzzzzzz.jsonl.gz"):
        services.archive.put(names.session_prefix("s") + name, io.BytesIO(b"hello"), 5, metadata={})
    restore_session(services, "s")
    assert live(services) == said


@pytest.mark.parametrize("point", ["before list", "before open"])
def test_an_archive_that_is_down_is_an_error_that_may_pass(client: redis.Redis, services: Services, point: str) -> None:
    said = [*asleep(services, 4, 5), *say(services, 9, 2)]
    before = everything(client)
    watched, points = watch(services)

    def fail() -> None:
        raise ArchiveUnavailable("the archive is down")

    points.at(point, fail)
    with pytest.raises(ArchiveUnavailable):
        restore_session(watched, "s")
    assert everything(client) == before
    restore_session(services, "s")
    assert live(services) == said


def test_an_error_that_nobody_foresaw_leaves_the_session_as_it_was(client: redis.Redis, services: Services) -> None:
    asleep(services, 4, 5)
    say(services, 9, 2)
    before = everything(client)
    watched, points = watch(services)

    def surprise() -> None:
        raise ZeroDivisionError

    points.at("before open", surprise)
    with pytest.raises(ZeroDivisionError):
        restore_session(watched, "s")
    assert everything(client) == before


# Overlaps and divergent segments, as a Redis leaves them that a failover has rewound


def epoch_of(services: Services) -> int:
    return contents.look(services.archive, "s").segments[-1].name.epoch


def test_segments_that_overlap_and_agree_make_one_transcript(services: Services) -> None:
    said = asleep(services, 3, 6)
    epoch = epoch_of(services)
    diverge(services, epoch, 0, said[3:5])
    diverge(services, epoch, 4, [*said[7:9], *elements(50, 2)])
    diverge(services, epoch, 2, said[5:8])
    expected = [*said, *elements(50, 2)]
    assert read_transcript(services, "s") == expected
    result = restore_session(services, "s")
    assert (result.messages, result.divergent) == (len(expected), ())
    assert live(services) == expected


@pytest.mark.parametrize(
    ("start", "messages"),
    [(0, elements(50, 6)), (3, elements(50, 2)), (3, elements(50, 9)), (0, [*elements(3, 2), *elements(50, 1)])],
    ids=["from the start", "shorter", "longer", "after an agreement"],
)
def test_of_two_segments_that_differ_the_later_is_restored_and_the_other_named(
    services: Services, start: int, messages: list[bytes]
) -> None:
    said = asleep(services, 3, 6)
    aside = segments(services)[1].name
    later = diverge(services, epoch_of(services), start, messages)
    expected = [*said[: 3 + start], *messages]
    assert read_transcript(services, "s") == expected
    result = restore_session(services, "s")
    assert (result.messages, list(result.divergent)) == (len(expected), [aside])
    assert live(services) == expected
    assert {stored.name for stored in segments(services)} >= {aside, later}  # both still have acknowledged messages


def test_a_divergent_history_is_left_aside_whole_even_where_it_has_more_segments(services: Services) -> None:
    said = asleep(services, 6)
    epoch = epoch_of(services)
    first = segments(services)[0].name
    second = diverge(services, epoch, 6, elements(20, 3))
    later = diverge(services, epoch, 4, elements(50, 3))
    assert later
    result = restore_session(services, "s")
    assert list(result.divergent) == [first, second]
    assert live(services) == [*said[:4], *elements(50, 3)]


def test_a_segment_that_no_longer_meets_what_the_later_ones_left_is_a_gap(
    client: redis.Redis, services: Services
) -> None:
    asleep(services, 6)
    epoch = epoch_of(services)
    diverge(services, epoch, 0, elements(50, 3))
    orphan = diverge(services, epoch, 5, elements(70, 3))
    before = everything(client)
    for reading in (restore_session, read_transcript):
        with pytest.raises(SegmentMissing, match=re.escape(orphan)):
            reading(services, "s")
        assert everything(client) == before
