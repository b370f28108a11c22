"""Waking a session up: every message, in order, once, as the very bytes; or an error and nothing changed."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.keyspace import lasting_keys, raw
from support.observed import watch
from support.sessions import purge_session, with_settings
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    Expiry,
    RedisUnavailable,
    RestoreTicket,
    SessionNotFound,
    SessionStore,
    StagingLost,
    Status,
)
from torpor.worker.archive import contents, names
from torpor.worker.archive import segment as transcript
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable, SegmentDamaged, SegmentMissing
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, read_transcript, restore_session

STRANGE = [b"", b"\xff\xfe", b"NaN", b"{", b'{"a":\n1}', b"\r\n", b"\x00" * 100, b'"\\ud800"', b"x" * 70_000]

POINTS = ["after begin", "before list", "before open", "after stage", "before finish_restore"]


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    """Few shards, so that a sweep over all of them costs little."""
    return SessionStore(client, shards=4)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torpor.worker.archive.segment._READ_BYTES", 250)  # three messages


def elements(first: int, count: int) -> list[bytes]:
    return [b'{"content":"message %d"}' % number for number in range(first, first + count)]


def say(services: Services, first: int, count: int, session_id: str = "s", **options: Any) -> list[bytes]:
    said = elements(first, count)
    services.sessions.append(session_id, said, **options)
    return said


def live(services: Services, session_id: str = "s") -> list[bytes]:
    return services.sessions.messages(session_id, touch=False)


def asleep(services: Services, *turns: int, session_id: str = "s", **options: Any) -> list[bytes]:
    """A session in the archive alone, a segment of an epoch of its own for each turn."""
    said: list[bytes] = []
    for count in turns:
        said += say(services, len(said), count, session_id, **options)
        assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return said


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """All that Redis holds, but the configuration and what tells of what was done."""
    readers: dict[bytes, tuple[str, list[bytes | int | str]]] = {
        b"list": ("LRANGE", [0, -1]),
        b"hash": ("HGETALL", []),
        b"zset": ("ZRANGE", [0, -1, "WITHSCORES"]),
        b"set": ("SMEMBERS", []),
    }
    found = {}
    for key in lasting_keys(client):
        if not key.endswith((b":t", b":config", b":events")):
            command, arguments = readers[raw(client, "TYPE", key)]
            found[key] = raw(client, command, key, *arguments)
    return found


def segments(services: Services, session_id: str = "s") -> list[StoredObject]:
    return [segment.stored for segment in contents.look(services.archive, session_id).segments]


def replace(services: Services, stored: StoredObject, change: Callable[[bytes], bytes]) -> None:
    """Change an object's bytes behind Torpor's back."""
    with services.archive.open(stored) as body:
        changed = change(body.read())
    services.archive.delete(stored)
    services.archive.put(stored.name, io.BytesIO(changed), len(changed), metadata=stored.metadata)


def fork(services: Services, epoch: int, start: int, messages: Iterable[bytes]) -> str:
    """Archive a segment as a worker would have whose Redis was rewound; later than all that is there."""
    newest = max(stored.generation for stored in services.archive.list(""))

    def clock() -> bool:
        probe = services.archive.put("probe", io.BytesIO(), 0, metadata={})
        services.archive.delete(probe)
        return probe.generation > newest

    wait_until(clock)  # a folder's clock moves in steps
    packed = transcript.pack("s", epoch, start, 0, [messages])
    name = names.segment_name("s", packed.name)
    with packed.body:
        services.archive.put(name, packed.body, packed.size, metadata={"sha256": packed.sha256, "session": "s"})
    return name


# What comes back


def test_every_element_comes_back_byte_for_byte(client: redis.Redis, services: Services) -> None:
    said = say(services, 0, 1)
    [key] = raw(client, "KEYS", "*:m:s")
    raw(client, "RPUSH", key, *STRANGE)
    said += [*STRANGE, *say(services, 1, 1)]
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "s") == said
    assert restore_session(services, "s").messages == len(said)
    assert raw(client, "LRANGE", key, 0, -1) == said
    assert raw(client, "TTL", key) == -1


def test_a_session_of_many_epochs_comes_back_in_order(services: Services) -> None:
    said = asleep(services, 1, 7, 2, 11, 1)
    assert len({segment.name.epoch for segment in contents.look(services.archive, "s").segments}) == 5
    assert restore_session(services, "s").messages == len(said)
    assert live(services) == said
    said += say(services, len(said), 2)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    said += say(services, len(said), 1)
    assert restore_session(services, "s").messages == len(said) - 1
    assert live(services) == said


def test_what_was_archived_of_a_live_epoch_does_not_come_twice(services: Services) -> None:
    said = asleep(services, 4)
    watched, points = watch(services)
    said += say(services, 4, 3)
    points.at("before commit", lambda: said.extend(say(services, 7, 2)))
    assert archive_session(watched, "s").outcome is Outcome.KEPT
    assert read_transcript(services, "s") == said
    assert restore_session(services, "s").messages == 4
    assert live(services) == said
    info = services.sessions.info("s")
    assert info
    assert (info.restored_count, info.archived_count, info.complete) == (4, 7, True)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "s") == said


def test_a_session_gets_back_its_owner_its_expiry_and_its_beginning(services: Services) -> None:
    expiry = Expiry(timedelta(seconds=77), timedelta(days=3))
    say(services, 0, 1, owner="ann", expiry=expiry)
    created = services.sessions.info("s")
    archive_session(services, "s")
    say(services, 1, 1)  # it comes back without them
    restore_session(services, "s")
    info = services.sessions.info("s")
    assert created
    assert info
    assert (info.owner, info.expiry, info.created) == ("ann", expiry, created.created)
    assert (info.idle_timeout, info.max_age) == (expiry.idle, expiry.max_age)


def test_a_restored_session_is_due_after_its_idle_timeout_again(services: Services) -> None:
    asleep(services, 2, expiry=Expiry(timedelta(seconds=100)))
    restore_session(services, "s")
    info = services.sessions.info("s")
    assert info
    assert info.due_at
    assert info.status is Status.LIVE
    assert timedelta(seconds=98) < info.due_at - info.last_active <= timedelta(seconds=101)


def test_restoring_again_changes_nothing(client: redis.Redis, services: Services) -> None:
    asleep(services, 4)
    assert restore_session(services, "s").outcome is RestoreOutcome.RESTORED
    before = everything(client)
    assert restore_session(services, "s").outcome is RestoreOutcome.COMPLETE
    assert everything(client) == before


# While it comes back


def written_and_read(services: Services, session_id: str) -> list[bytes]:
    services.sessions.messages(session_id)
    return say(services, 100, 2, session_id)


def archived_meanwhile(services: Services, session_id: str) -> list[bytes]:
    services.sessions.close(session_id)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return []


def written_and_archived(services: Services, session_id: str) -> list[bytes]:
    said = say(services, 100, 2, session_id)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return said


def restored_meanwhile(services: Services, session_id: str) -> list[bytes]:
    assert restore_session(services, session_id).outcome is RestoreOutcome.RESTORED
    return []


def restored_and_written(services: Services, session_id: str) -> list[bytes]:
    restored_meanwhile(services, session_id)
    return say(services, 100, 2, session_id)


def restored_and_archived(services: Services, session_id: str) -> list[bytes]:
    said = restored_and_written(services, session_id)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    return said


EVENTS = [
    written_and_read,
    archived_meanwhile,
    written_and_archived,
    restored_meanwhile,
    restored_and_written,
    restored_and_archived,
]


@pytest.mark.parametrize("awake", [0, 3])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_nothing_is_lost_or_doubled_whatever_happens_during_a_restore(
    services: Services, event: Callable[[Services, str], list[bytes]], point: str, awake: int
) -> None:
    said = asleep(services, 4, 5)
    if awake:
        said += say(services, len(said), awake)
    watched, points = watch(services)
    points.at(point, lambda: said.extend(event(services, "s")))
    result = restore_session(watched, "s")
    assert not points.pending
    assert result.outcome in (RestoreOutcome.RESTORED, RestoreOutcome.COMPLETE)
    assert live(services) == said
    assert read_transcript(services, "s") == said
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert read_transcript(services, "s") == said


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("erase", ["clear", "purge"])
def test_what_is_erased_during_a_restore_does_not_come_back(services: Services, erase: str, point: str) -> None:
    asleep(services, 4, 5)
    watched, points = watch(services)

    def act() -> None:
        if erase == "clear":
            services.sessions.clear("s")
        else:
            purge_session(services, "s")

    points.at(point, act)
    try:
        restore_session(watched, "s")
    except SessionNotFound:
        assert erase == "purge"
    assert not points.pending
    assert live(services) == []
    said = say(services, 50, 1, allow_reuse=True)
    drain(services, list(services.sessions.due_counts()) or [0])
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    assert live(services) == said
    assert len(segments(services)) == 1


def test_a_page_of_an_older_restore_is_refused(client: redis.Redis, services: Services) -> None:
    said = asleep(services, 9)
    watched, points = watch(services)
    points.at("after stage", lambda: restore_session(services, "s"))
    assert restore_session(watched, "s").outcome is RestoreOutcome.COMPLETE
    assert points.log.count("after stage") == 2  # the page that was refused was its last
    assert "before finish_restore" not in points.log
    assert live(services) == said
    assert not raw(client, "KEYS", "*:r:*")


def test_a_restore_leaves_the_session_to_one_that_is_still_running(services: Services) -> None:
    said = asleep(services, 9)
    watched, points = watch(services)
    tickets = []
    points.at("after begin", lambda: tickets.append(services.sessions.begin_restore("s", timedelta(seconds=30))))
    assert restore_session(watched, "s").outcome is RestoreOutcome.SUPERSEDED
    [ticket] = tickets
    assert isinstance(ticket, RestoreTicket)
    assert services.sessions.abandon(ticket)
    assert restore_session(services, "s").messages == 9
    assert live(services) == said


def test_a_session_that_is_being_restored_is_not_due(services: Services) -> None:
    asleep(services, 9)
    seen = []
    for point in POINTS:
        watched, points = watch(services)

        def look() -> None:
            info = services.sessions.info("s")
            seen.append((info and info.status, services.sessions.due_counts()))

        points.at(point, look)
        restore_session(watched, "s")
        archive_session(services, "s")
    assert seen == [(Status.RESTORING, {})] * len(POINTS)


@pytest.mark.parametrize("awake", [0, 3])
@pytest.mark.parametrize("point", [*POINTS, "after finish_restore"])
@pytest.mark.parametrize("then", ["restore", "worker"])
def test_a_restore_that_was_killed_is_finished_by_the_next_or_forgotten_by_the_worker(
    client: redis.Redis, services: Services, then: str, point: str, awake: int
) -> None:
    said = asleep(services, 4, 5)
    if awake:
        said += say(services, len(said), awake)
    watched, points = watch(services, lease_seconds=0.1)

    def kill() -> None:
        raise Killed

    points.at(point, kill)
    with pytest.raises(Killed):
        restore_session(watched, "s")
    assert read_transcript(services, "s") == said
    if then == "restore":
        restore_session(services, "s")
        assert live(services) == said
    else:
        if point == "after finish_restore":
            services.sessions.close("s")
        due = wait_until(services.sessions.due_counts, what="the restore's lease ends")
        drain(services, list(due))
        assert services.sessions.info("s") is None
        assert read_transcript(services, "s") == said
        restore_session(services, "s")
        assert live(services) == said
    wait_until(lambda: not raw(client, "KEYS", "*:r:*"), what="what was staged expires")


def test_a_staging_list_that_was_evicted_is_an_error_and_leaves_the_session_as_it_was(
    client: redis.Redis, services: Services
) -> None:
    said = [*asleep(services, 4, 5), *say(services, 9, 2)]
    before = everything(client)
    for point in ("after stage", "before finish_restore"):
        watched, points = watch(services)
        points.at(point, lambda: raw(client, "DEL", *raw(client, "KEYS", "*:r:*")))
        with pytest.raises(StagingLost):
            restore_session(watched, "s")
        assert everything(client) == before
    restore_session(services, "s")
    assert live(services) == said


# Reading without waking


@pytest.mark.parametrize("awake", [0, 2])
def test_a_transcript_is_read_without_waking_or_touching(client: redis.Redis, services: Services, awake: int) -> None:
    said = asleep(services, 3, 4)
    if awake:
        said += say(services, len(said), awake)
    before = everything(client)
    assert read_transcript(services, "s") == said
    assert everything(client) == before
    restore_session(services, "s")
    assert live(services) == said
    assert read_transcript(services, "s") == said


@pytest.mark.parametrize("point", ["before list", "before open"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_a_transcript_that_is_read_while_the_session_moves_is_one_that_it_had(
    services: Services, event: Callable[[Services, str], list[bytes]], point: str
) -> None:
    before = asleep(services, 4, 5)
    watched, points = watch(services)
    said: list[bytes] = []
    points.at(point, lambda: said.extend(event(services, "s")))
    if event is archived_meanwhile:
        say(services, 9, 1)
        before += elements(9, 1)
    assert read_transcript(watched, "s") in (before, before + said)
    assert not points.pending


@pytest.mark.parametrize(("awake", "point"), [(0, "before list"), (3, "between pages"), (3, "never")])
def test_a_transcript_is_whole_and_not_doubled_where_the_session_sleeps_and_wakes_while_it_is_read(
    services: Services, awake: int, point: str
) -> None:
    said = asleep(services, 4, 5)
    if awake:
        said += say(services, len(said), awake)
    watched, points = watch(services)

    def sleep() -> None:
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED

    def sleep_and_come_back() -> None:
        if awake:
            sleep()
        said.extend(say(services, len(said), 2))

    points.at("after info", sleep_and_come_back)
    points.at(point, sleep)
    assert read_transcript(watched, "s") == said
    assert points.pending in ([], ["never"])


def test_a_transcript_that_is_erased_while_it_is_read_is_gone(services: Services) -> None:
    for point in ("before list", "before open"):
        asleep(services, 4, 5, session_id=point)
        watched, points = watch(services)
        points.at(point, partial(purge_session, services, point))
        with pytest.raises(SessionNotFound):
            read_transcript(watched, point)
        assert not points.pending


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
        points.at("before commit", lambda: said.extend(say(services, len(said), 5)))
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
    with transcript.pack("s", 17, 0, 0, [elements(0, 4)]).body as body:
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


# Overlaps and forks, as a Redis leaves them that a failover has rewound


def epoch_of(services: Services) -> int:
    return contents.look(services.archive, "s").segments[-1].name.epoch


def test_segments_that_overlap_and_agree_make_one_transcript(services: Services) -> None:
    said = asleep(services, 3, 6)
    epoch = epoch_of(services)
    fork(services, epoch, 0, said[3:5])
    fork(services, epoch, 4, [*said[7:9], *elements(50, 2)])
    fork(services, epoch, 2, said[5:8])
    expected = [*said, *elements(50, 2)]
    assert read_transcript(services, "s") == expected
    result = restore_session(services, "s")
    assert (result.messages, result.forks) == (len(expected), ())
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
    later = fork(services, epoch_of(services), start, messages)
    expected = [*said[: 3 + start], *messages]
    assert read_transcript(services, "s") == expected
    result = restore_session(services, "s")
    assert (result.messages, list(result.forks)) == (len(expected), [aside])
    assert live(services) == expected
    assert {stored.name for stored in segments(services)} >= {aside, later}  # both still hold acknowledged messages


def test_a_fork_is_left_aside_whole_even_where_it_has_more_segments(services: Services) -> None:
    said = asleep(services, 6)
    epoch = epoch_of(services)
    first = segments(services)[0].name
    second = fork(services, epoch, 6, elements(20, 3))
    later = fork(services, epoch, 4, elements(50, 3))
    assert later
    result = restore_session(services, "s")
    assert list(result.forks) == [first, second]
    assert live(services) == [*said[:4], *elements(50, 3)]


def test_a_segment_that_no_longer_meets_what_the_later_ones_left_is_a_gap(
    client: redis.Redis, services: Services
) -> None:
    asleep(services, 6)
    epoch = epoch_of(services)
    fork(services, epoch, 0, elements(50, 3))
    orphan = fork(services, epoch, 5, elements(70, 3))
    before = everything(client)
    for reading in (restore_session, read_transcript):
        with pytest.raises(SegmentMissing, match=re.escape(orphan)):
            reading(services, "s")
        assert everything(client) == before


# Quarantine


def test_a_restore_does_not_take_a_session_out_of_quarantine(services: Services) -> None:
    said = asleep(services, 4)
    said += say(services, 4, 1)
    failing = with_settings(services, max_attempts=1)
    watched, points = watch(failing)

    def fail() -> None:
        raise SegmentDamaged("no")

    points.at("before segment put", fail)
    assert archive_session(watched, "s").outcome is Outcome.QUARANTINED
    restore_session(services, "s")
    assert live(services) == said
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.due_at, info.error) == (Status.QUARANTINED, None, "no")
    assert archive_session(services, "s").outcome is Outcome.QUARANTINED


def test_a_restore_that_fails_does_not_take_a_session_out_of_quarantine(
    client: redis.Redis, services: Services
) -> None:
    asleep(services, 4)
    say(services, 4, 1)
    watched, points = watch(with_settings(services, max_attempts=1))

    def fail() -> None:
        raise SegmentDamaged("no")

    points.at("before segment put", fail)
    archive_session(watched, "s")
    before = everything(client)
    for point in ("before list", "before open", "before finish_restore"):
        points.at(point, fail)
        with pytest.raises(SegmentDamaged, match="no"):
            restore_session(watched, "s")
        assert everything(client) == before


def test_an_expiry_that_was_changed_while_nothing_was_written_is_what_the_session_wakes_with(
    client: redis.Redis, services: Services
) -> None:
    chat = MemorystoreChatMessageHistory(client, "s", 10, owner="ann", shards=4)
    chat.add_message(HumanMessage("once"))
    for days in (30, 40):
        assert archive_session(services, "s").outcome is Outcome.ARCHIVED
        restore_session(services, "s")
        chat.set_expiry(ttl=days * 86_400)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    info = chat.info()
    assert info
    assert info.expiry == Expiry(timedelta(days=40))
    assert chat.messages == [HumanMessage("once")]
    count = len(contents.look(services.archive, "s").segments)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert len(contents.look(services.archive, "s").segments) == count, (
        "what is remembered already is not written again"
    )


def test_an_expiry_that_is_changed_between_attempts_is_the_last_one_when_the_session_wakes(
    client: redis.Redis, services: Services
) -> None:
    chat = MemorystoreChatMessageHistory(client, "s", 100, shards=4)
    chat.add_message(HumanMessage("once"))
    watched, points = watch(services, retry_delay_seconds=0.1)

    def fail() -> None:
        raise RedisUnavailable("the connection is cut")

    for ttl in (200, 300):
        points.at("before commit", fail)
        assert archive_session(watched, "s").outcome is Outcome.POSTPONED
        chat.set_expiry(ttl=ttl)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    info = chat.info()
    assert info
    assert info.expiry == Expiry(timedelta(seconds=300))
    assert chat.messages == [HumanMessage("once")]
