"""What happens to a session while a worker archives it, at each point: nothing is lost, nothing comes back."""

from __future__ import annotations

import gzip
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from support.keyspace import raw
from support.observed import Points, watch
from support.sessions import purge_session, with_settings
from support.waiting import wait_until
from torpor.history.conversation import Conversation
from torpor.history.protocol import (
    ClaimOutcome,
    Expiry,
    Lease,
    RedisUnavailable,
    SessionNotFound,
    SessionStore,
    Status,
    run_sync,
)
from torpor.worker.archive import contents, names
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveUnavailable, SegmentMissing
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import AttemptResult, Outcome
from torpor.worker.sleep.pool import Pool
from torpor.worker.wake.restore import RestoreOutcome, read_transcript, restore_session
from torpor.worker.wake.session_archive import SessionArchive

LARGE = 250  # three pages

POINTS = [
    "before snapshot",
    "after snapshot",
    "between pages",
    "before segment put",
    "after segment put",
    "before commit",
    "after commit",
]


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.fixture
def sessions(client: redis.Redis) -> SessionStore:
    """Few shards, so that a sweep over all of them costs little."""
    return SessionStore(client, shards=4)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torpor.history.store.reading.PAGE_BYTES", 2_500)


@dataclass
class Chat:
    """A session as its user knows it: what was acknowledged, and what must never be seen again."""

    services: Services
    session_id: str = "s"
    acknowledged: list[bytes] = field(default_factory=list)
    erased: list[bytes] = field(default_factory=list)
    said: int = 0

    def say(self, count: int = 1) -> None:
        elements = [b'{"content":"message %d."}' % number for number in range(self.said, self.said + count)]
        self.services.sessions.append(self.session_id, elements, expiry=Expiry(), owner="ann", allow_reuse=True)
        self.said += count
        self.acknowledged += elements

    def clear(self) -> None:
        self.services.sessions.clear(self.session_id)
        self._forget()

    def pop(self) -> None:
        """Take the last message back, waking the session first where that is needed."""
        conversation = Conversation(
            self.services.sessions.client, self.session_id, archive=SessionArchive(self.services.archive.url)
        )
        assert run_sync(conversation.pop(lambda page: page.messages)) == self.acknowledged[-1]
        self.erased.append(self.acknowledged.pop())

    def purge(self) -> None:
        purge_session(with_settings(self.services, tombstone_seconds=1), self.session_id)
        self._forget()

    def _forget(self) -> None:
        self.erased += self.acknowledged
        self.acknowledged = []

    def sleep(self) -> None:
        """Close and drain, as sweeps would do, until nothing of the session is in Redis."""
        for _ in range(5):
            if not self.services.sessions.close(self.session_id):
                break
            self._leases_end()
            drain(self.services, list(self.services.sessions.due_counts()))
        assert self.services.sessions.info(self.session_id) is None

    def _leases_end(self) -> None:
        """The lease that was running at a clear has ended, and a tombstone: the erasure need not look again."""
        client: Any = self.services.sessions.client
        for key in raw(client, "KEYS", f"*:s:{self.session_id}"):
            raw(client, "HDEL", key, "again")
            if raw(client, "HGET", key, "until"):
                raw(client, "HSET", key, "until", 1)

    def wake(self) -> list[bytes]:
        try:
            restore_session(self.services, self.session_id)
        except SessionNotFound:
            return []
        return self.services.sessions.messages(self.session_id)

    def check(self) -> None:
        """Asleep or awake, in one place or the other: the transcript is what was acknowledged, in order, once."""
        assert transcript(self.services, self.session_id) == self.acknowledged
        self.sleep()
        assert transcript(self.services, self.session_id) == self.acknowledged
        self.check_erased()
        assert self.wake() == self.acknowledged
        self.sleep()
        assert self.wake() == self.acknowledged

    def check_erased(self) -> None:
        kept = set(re.findall(rb"message \d+\.", b"".join(archived_bytes(self.services))))
        assert kept.isdisjoint(re.findall(rb"message \d+\.", b"".join(self.erased)))


def due_chats(services: Services, count: int) -> list[Chat]:
    chats = [Chat(services, f"chat {number}") for number in range(count)]
    for chat in chats:
        chat.say(2)
        services.sessions.close(chat.session_id)
    return chats


def archived_bytes(services: Services) -> Iterator[bytes]:
    """The content of every segment in the archive, whatever its name tells."""
    for stored in services.archive.list(""):
        with services.archive.open(stored) as body:
            yield gzip.decompress(body.read()) if stored.name.endswith(".gz") else b""


def transcript(services: Services, session_id: str) -> list[bytes]:
    try:
        return read_transcript(services, session_id)
    except SessionNotFound:
        return []


def new(chat: Chat) -> None:
    """All of it in Redis only."""
    chat.say(LARGE)


def slept_before(chat: Chat) -> None:
    """Earlier messages in the archive alone."""
    chat.say(3)
    archive_session(chat.services, chat.session_id)
    chat.say(LARGE)


def woken(chat: Chat) -> None:
    """Earlier messages in the archive and restored."""
    chat.say(3)
    archive_session(chat.services, chat.session_id)
    restore_session(chat.services, chat.session_id)
    chat.say(LARGE)


def kept_before(chat: Chat) -> None:
    """Earlier messages of the same epoch in the archive, as after a message that came during an upload."""
    chat.say(3)
    watched, points = watch(chat.services)
    points.at("before commit", lambda: chat.say(LARGE))
    assert archive_session(watched, chat.session_id).outcome is Outcome.KEPT


STATES: list[Callable[[Chat], None]] = [new, slept_before, woken, kept_before]


@dataclass(frozen=True)
class Event:
    """Something that happens while a worker is at work, and how the work may end."""

    name: str
    act: Callable[[Chat], object]
    outcomes: set[Outcome]


def close_and_take_over(chat: Chat) -> None:
    chat.services.sessions.close(chat.session_id)
    assert archive_session(chat.services, chat.session_id).outcome is Outcome.ARCHIVED


def take_over_and_come_back(chat: Chat) -> None:
    close_and_take_over(chat)
    chat.say(3)


def take_over_and_wake(chat: Chat) -> None:
    close_and_take_over(chat)
    assert restore_session(chat.services, chat.session_id).outcome is RestoreOutcome.RESTORED


def clear_and_erase(chat: Chat) -> None:
    chat.clear()
    outcomes = drain(chat.services, list(chat.services.sessions.due_counts()))
    assert outcomes[Outcome.ERASED] + outcomes[Outcome.ERASING] == 1


def clear_and_go_on(chat: Chat) -> None:
    chat.clear()
    chat.say(2)


def pop_and_erase(chat: Chat) -> None:
    chat.pop()
    outcomes = drain(chat.services, list(chat.services.sessions.due_counts()))
    assert outcomes[Outcome.ERASED] + outcomes[Outcome.ERASING] == 1


def pop_and_go_on(chat: Chat) -> None:
    chat.pop()
    chat.pop()
    chat.say(2)


def purge_and_go_on(chat: Chat) -> None:
    chat.purge()
    chat.say(2)


def second_worker(chat: Chat) -> None:
    assert archive_session(chat.services, chat.session_id).outcome is Outcome.BUSY
    assert drain(chat.services, list(range(4))) == {}


IN_USE = {Outcome.KEPT, Outcome.SUPERSEDED}
GONE = {Outcome.SUPERSEDED}
EVENTS = [
    Event("append", lambda chat: chat.say(2), IN_USE),
    Event("read", lambda chat: chat.services.sessions.messages(chat.session_id), IN_USE),
    Event("close", lambda chat: chat.services.sessions.close(chat.session_id), IN_USE),
    Event("clear", Chat.clear, GONE),
    Event("clear, go on", clear_and_go_on, GONE),
    Event("clear, erased by another worker", clear_and_erase, GONE),
    Event("pop", Chat.pop, GONE),
    Event("pop twice, go on", pop_and_go_on, GONE),
    Event("pop, erased by another worker", pop_and_erase, GONE),
    Event("purge", Chat.purge, GONE),
    Event("purge, go on", purge_and_go_on, GONE),
    Event("restore", lambda chat: restore_session(chat.services, chat.session_id), {*IN_USE, Outcome.ARCHIVED}),
    Event("a second worker", second_worker, {Outcome.ARCHIVED}),
    Event("archived by somebody else", close_and_take_over, GONE),
    Event("archived by somebody else, come back", take_over_and_come_back, GONE),
    Event("archived by somebody else, woken", take_over_and_wake, GONE),
]


@pytest.mark.parametrize(
    ("archive_url", "state"),
    [*(("folder", state) for state in STATES), ("gcs", woken)],
    indirect=["archive_url"],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
@pytest.mark.parametrize("point", POINTS[:-1])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_nothing_is_lost_whatever_happens_meanwhile(
    services: Services, event: Event, point: str, state: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    state(chat)
    watched, points = watch(services)
    points.at(point, lambda: event.act(chat))
    result = archive_session(watched, chat.session_id)
    assert not points.pending
    assert result.outcome in event.outcomes
    chat.check()


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
@pytest.mark.parametrize(
    ("point", "head_bytes"),
    [("after snapshot", 10_000), ("after heads", 10_000), ("before commit", 10_000), ("after heads", 2_500)],
    ids=["after snapshot", "after heads", "before commit", "after heads that are a part"],
)
def test_nothing_is_lost_whatever_happens_to_one_session_of_a_batch(
    services: Services, event: Event, point: str, head_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.worker.sleep.pool._HEAD_BYTES", head_bytes)
    others = [Chat(services, f"other {number}", said=1_000 * number) for number in range(1, 4)]
    chat = Chat(services)
    for each in (*others, chat):
        woken(each)
        services.sessions.close(each.session_id)
    watched, points = watch(services, concurrency=1)  # so that the commit of several is one
    points.at(point, lambda: event.act(chat))
    outcomes = drain(watched, list(range(4)))
    assert not points.pending
    assert outcomes[Outcome.ARCHIVED] >= len(others)
    assert sum(outcomes[outcome] for outcome in event.outcomes) >= 1
    for each in (*others, chat):
        each.check()


def test_a_session_that_can_not_be_committed_keeps_no_other_of_its_batch(
    client: redis.Redis, services: Services
) -> None:
    chats = due_chats(services, 8)
    watched, points = watch(services, concurrency=4)
    [key] = raw(client, "KEYS", "*:s:chat 3")
    points.at("after heads", lambda: (raw(client, "RENAME", key, key + b":aside"), raw(client, "SET", key, "x")))
    assert drain(watched, list(range(4))) == {Outcome.ARCHIVED: 7, Outcome.FAILED: 1}
    raw(client, "RENAME", key + b":aside", key)
    for chat in chats:
        chat.check()


def test_a_commit_that_fails_for_a_whole_batch_gives_all_of_it_back(services: Services) -> None:
    chats = due_chats(services, 4)
    watched, points = watch(services, concurrency=1, retry_delay_seconds=0.01)

    def fail() -> None:
        raise RedisUnavailable("Redis is down")

    points.at("before commit", fail)
    outcomes = drain(watched, list(range(4)))
    assert outcomes[Outcome.POSTPONED] >= 1
    assert sum(outcomes.values()) == len(chats)
    for chat in chats:
        info = services.sessions.info(chat.session_id)
        assert info is None or info.status is not Status.IN_WORK
        chat.check()


def test_a_session_that_is_claimed_again_before_the_first_attempt_has_ended_comes_after_it(services: Services) -> None:
    chat = Chat(services)
    chat.say(2)
    services.sessions.close("s")
    watched, points = watch(services)
    arrived, go = threading.Event(), threading.Event()

    def hold_up() -> None:
        arrived.set()
        assert go.wait(20)

    points.at("before segment put", hold_up)
    with Pool(watched) as archiver:
        archiver.begin(services.sessions.claim(list(range(4)), 10, services.settings.lease))
        assert arrived.wait(20)
        chat.say(2)
        services.sessions.close("s")
        again = services.sessions.claim(list(range(4)), 10, services.settings.lease)
        assert [lease.session_id for lease in again] == ["s"]
        archiver.begin(again)
        go.set()
    assert archiver.totals == {Outcome.KEPT: 1, Outcome.ARCHIVED: 1}
    chat.check()


def leased(services: Services) -> int:
    return sum(shard.in_work for shard in services.sessions.overview())


def test_a_drain_claims_more_while_the_last_of_a_batch_is_still_in_work_and_not_too_many(services: Services) -> None:
    chats = due_chats(services, 40)
    watched, points = watch(services, concurrency=2, batch=8)
    most: list[int] = []

    def look() -> None:
        most.append(leased(services))
        points.at("before segment put", look)

    def hold_up() -> None:
        wait_until(lambda: points.log.count("after snapshot") > 1, what="more is claimed")
        look()

    points.at("before segment put", hold_up)
    assert drain(watched, list(range(4))) == {Outcome.ARCHIVED: len(chats)}
    assert max(most) <= 8 + 2 * 2
    for chat in chats:
        chat.check()


def fail_once(services: Services, chats: list[Chat]) -> None:
    """Have each begun by a worker that dies."""
    leases = services.sessions.claim(list(range(4)), len(chats), services.settings.lease)
    assert len(leases) == len(chats)
    services.sessions.snapshots(leases)
    for chat in chats:
        services.sessions.close(chat.session_id)


def test_of_sessions_that_have_failed_before_no_more_than_a_batch_is_claimed_at_a_time(services: Services) -> None:
    chats = due_chats(services, 12)
    fail_once(services, chats)
    watched, points = watch(services, batch=4)
    most: list[int] = []

    def look() -> None:
        most.append(leased(services))
        points.at("before segment put", look)

    points.at("before segment put", look)
    assert drain(watched, list(range(4))) == {Outcome.ARCHIVED: len(chats)}
    assert 1 <= max(most) <= 4
    for chat in chats:
        chat.check()


def test_with_the_archive_down_one_session_that_has_failed_before_is_tried_and_no_other(services: Services) -> None:
    chats = due_chats(services, 4)
    fail_once(services, chats)
    watched, points = watch(services, retry_delay_seconds=60)

    def fail() -> None:
        points.at("before marker put", fail)
        raise ArchiveUnavailable("the archive is down")

    points.at("before marker put", fail)
    assert drain(watched, list(range(4)))[Outcome.POSTPONED] >= 1
    for chat in chats:
        services.sessions.close(chat.session_id)
    assert drain(watched, list(range(4))) == {Outcome.POSTPONED: 1}
    points.at("before marker put", lambda: None)
    assert drain(watched, list(range(4)))[Outcome.ARCHIVED] == 3
    for chat in chats:
        chat.check()


def test_a_session_that_waits_for_others_is_archived_though_its_lease_was_renewed_meanwhile(services: Services) -> None:
    waits, goes_first = due_chats(services, 2)
    [lease] = [
        lease
        for lease in services.sessions.claim(list(range(4)), 2, services.settings.lease)
        if lease.session_id == waits.session_id
    ]
    services.sessions.snapshots([lease])
    for chat in (waits, goes_first):
        services.sessions.close(chat.session_id)
    watched, points = watch(services, lease_seconds=2)
    points.at("before segment put", lambda: wait_until(lambda: points.log.count("after renew") >= 2))
    assert drain(watched, list(range(4))) == {Outcome.ARCHIVED: 2}
    for chat in (waits, goes_first):
        chat.check()


def test_what_an_unknown_error_leaves_is_given_back(services: Services) -> None:
    chats = due_chats(services, 8)
    watched, points = watch(services, concurrency=1)

    def fail() -> None:
        raise LookupError

    points.at("before commit", fail)
    with pytest.raises(LookupError):
        drain(watched, list(range(4)))
    assert leased(services) == 0
    for chat in chats:
        chat.check()


@pytest.mark.parametrize("point", ["after heads", "before commit", "after commit"])
def test_a_worker_that_is_killed_amid_a_batch_loses_nothing(services: Services, point: str) -> None:
    chats = due_chats(services, 4)
    watched, points = watch(services, lease_seconds=0.3)

    def die() -> None:
        raise Killed

    points.at(point, die)
    with pytest.raises(Killed):
        drain(watched, list(range(4)))
    in_redis = [chat for chat in chats if services.sessions.info(chat.session_id)]
    wait_until(lambda: sum(services.sessions.due_counts().values()) == len(in_redis), what="the leases end")
    for chat in chats:
        chat.check()
        [segment] = contents.look(services.archive, chat.session_id).segments
        assert segment.name.stop == len(chat.acknowledged)


@pytest.mark.parametrize("point", POINTS[:-1])
@pytest.mark.parametrize("use", ["append", "read"])
def test_a_session_that_is_used_meanwhile_stays_in_redis(services: Services, use: str, point: str) -> None:
    chat = Chat(services)
    chat.say(LARGE)
    watched, points = watch(services)
    points.at(point, lambda: chat.say() if use == "append" else services.sessions.messages("s"))
    archive_session(watched, "s")
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.message_count) == (Status.LIVE, len(chat.acknowledged))
    assert services.sessions.messages("s") == chat.acknowledged
    sent = "after segment put" in points.log
    # What was verified is not sent again.
    assert info.archived_count == (LARGE if sent else 0)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    sizes = [segment.name.stop - segment.name.start for segment in contents.look(services.archive, "s").segments]
    assert sum(sizes) == len(chat.acknowledged)


def test_an_element_that_another_program_pushes_keeps_the_session_alive(
    client: redis.Redis, services: Services
) -> None:
    chat = Chat(services)
    chat.say(3)
    [key] = raw(client, "KEYS", "*:m:s")
    watched, points = watch(services)
    points.at("before commit", lambda: raw(client, "RPUSH", key, b"not by Torpor"))
    assert archive_session(watched, "s").outcome is Outcome.KEPT
    chat.acknowledged.append(b"not by Torpor")
    chat.check()


def test_a_maintenance_read_does_not_keep_a_session_alive(services: Services) -> None:
    chat = Chat(services)
    chat.say(LARGE)
    watched, points = watch(services)
    points.at("before commit", lambda: (services.sessions.info("s"), read_transcript(services, "s")))
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert not points.pending


def test_what_is_cleared_during_the_check_of_older_segments_does_not_come_back(services: Services) -> None:
    chat = Chat(services)
    woken(chat)
    watched, points = watch(services)
    points.at("before list", lambda: clear_and_erase(chat))
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    chat.check()


def test_a_clear_during_the_erasure_of_another_clear_is_finished_too(services: Services) -> None:
    for point in ("before snapshot", "after snapshot", "before marker put", "before delete", "before note_erased"):
        chat = Chat(services, f"cleared {point}")
        chat.say(3)
        archive_session(services, chat.session_id)
        chat.say(3)
        chat.clear()
        chat.say(4)
        watched, points = watch(services)
        points.at(point, chat.clear)
        archive_session(watched, chat.session_id)
        assert not points.pending
        chat.say(2)
        chat.check()


def test_a_cleared_session_is_not_archived_before_the_archive_is_erased(services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    archive_session(services, "s")
    chat.clear()
    chat.say(2)
    watched, points = watch(services)
    points.at("after note_erased", chat.check_erased)
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert not points.pending
    assert points.log.index("after note_erased") < points.log.index("before segment put")
    chat.check()


# Leases


def score(client: redis.Redis) -> float | None:
    """When the lease of session "s" ends."""
    [due] = raw(client, "KEYS", "*:due") or [None]
    found: float | None = raw(client, "ZSCORE", due, "s") if due else None
    return found


def now_ms(client: redis.Redis) -> float:
    seconds, microseconds = raw(client, "TIME")
    return float(seconds * 1_000 + microseconds / 1_000)


def test_a_slow_upload_keeps_its_lease(client: redis.Redis, services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.3)

    def wait_beyond_the_lease() -> None:
        first = score(client)
        assert first
        wait_until(lambda: now_ms(client) > first + 300)
        assert archive_session(services, "s").outcome is Outcome.BUSY

    points.at("before segment put", wait_beyond_the_lease)
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert points.log.count("after renew") >= 2
    assert not points.pending
    chat.check()


def test_a_lease_that_was_taken_over_stops_the_work(client: redis.Redis, services: Services) -> None:
    chat = Chat(services)
    chat.say(LARGE)
    watched, points = watch(services, lease_seconds=0.3)
    taken: list[Lease | ClaimOutcome] = []

    def take_over() -> None:
        services.sessions.close("s")
        taken.append(services.sessions.claim_one("s", services.settings.lease))
        renewed = points.log.count("after renew")
        wait_until(lambda: points.log.count("after renew") >= renewed + 2)

    points.at("between pages", take_over)
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    assert points.log.count("between pages") == 1
    assert "before segment put" not in points.log
    assert list(services.archive.list("")) == []
    [lease] = taken
    assert isinstance(lease, Lease)
    assert services.sessions.renew([lease], services.settings.lease) != [None]
    chat.check()


@pytest.mark.parametrize("erase", [clear_and_erase, Chat.purge])
def test_an_upload_that_finishes_after_its_session_was_erased_is_taken_back(
    client: redis.Redis, services: Services, erase: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.3)

    def erase_and_wait() -> None:
        erase(chat)
        renewed = points.log.count("after renew")
        wait_until(lambda: points.log.count("after renew") >= renewed + 2)  # the worker knows that its lease is lost

    points.at("before segment put", erase_and_wait)
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    assert "after segment put" in points.log
    chat.check_erased()
    chat.check()


# Crashes


def killed(points: Points, point: str, watched: Services) -> None:
    def kill() -> None:
        raise Killed

    points.at(point, kill)
    with pytest.raises(Killed):
        archive_session(watched, "s")


@pytest.mark.parametrize(
    ("point", "state"),
    [
        *((point, state) for point in POINTS for state in STATES),
        *((point, state) for point in ("before marker put", "after marker put") for state in (new, slept_before)),
        *(("before list", state) for state in (woken, kept_before)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_a_killed_worker_began_is_finished_by_the_next(
    client: redis.Redis, services: Services, point: str, state: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    state(chat)
    watched, points = watch(services, lease_seconds=0.1)
    killed(points, point, watched)
    assert transcript(services, "s") == chat.acknowledged

    if point != "after commit":
        due = wait_until(services.sessions.due_counts, what="the lease ends")
        assert drain(services, list(due)) == {Outcome.ARCHIVED: 1}
    assert services.sessions.info("s") is None
    sizes = [segment.name.stop - segment.name.start for segment in contents.look(services.archive, "s").segments]
    assert sum(sizes) == len(chat.acknowledged)
    chat.check()


@pytest.mark.parametrize("point", ["before marker put", "after marker put", "before delete", "after delete"])
def test_an_erasure_that_was_killed_is_finished_by_the_next(services: Services, point: str) -> None:
    chat = Chat(services)
    for _ in range(3):
        chat.say(2)
        archive_session(services, "s")
    chat.clear()
    chat.say(2)
    watched, points = watch(services, lease_seconds=0.1)
    killed(points, point, watched)
    due = wait_until(services.sessions.due_counts, what="the lease ends")
    assert drain(services, list(due)) == {Outcome.ERASED: 1}
    chat.check_erased()
    chat.check()


# Failures


def drain_all(services: Services) -> Counter[Outcome]:
    return drain(services, list(services.sessions.due_counts()) or [0])


def broken_list(client: redis.Redis, messages: bytes, metadata: bytes) -> None:
    raw(client, "DEL", messages)
    raw(client, "SET", messages, "not a list")


def missing_metadata(client: redis.Redis, messages: bytes, metadata: bytes) -> None:
    raw(client, "DEL", metadata)


def damaged_metadata(client: redis.Redis, messages: bytes, metadata: bytes) -> None:
    raw(client, "HSET", metadata, "epoch", "yesterday")


def broken_metadata(client: redis.Redis, messages: bytes, metadata: bytes) -> None:
    raw(client, "DEL", metadata)
    raw(client, "SET", metadata, "not a hash")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (broken_list, "WRONGTYPE"),
        (missing_metadata, "metadata of session .* was lost"),
        (damaged_metadata, "metadata .* is damaged"),
    ],
)
def test_one_bad_session_does_not_stop_the_others_and_goes_to_quarantine(
    client: redis.Redis, services: Services, damage: Callable[[redis.Redis, bytes, bytes], None], error: str
) -> None:
    services = with_settings(services, max_attempts=3, retry_delay_seconds=0.01, batch=1)
    chats = [Chat(services, f"chat {number}") for number in range(6)]
    for chat in chats:
        chat.say(2)
    bad, *good = chats
    [messages] = raw(client, "KEYS", f"*:m:{bad.session_id}")
    metadata = messages.replace(b":m:", b":s:")
    damage(client, messages, metadata)
    before = {key: raw(client, "DUMP", key) for key in (messages,)}
    for chat in chats:
        services.sessions.close(chat.session_id)

    totals = drain_all(services)
    assert totals[Outcome.ARCHIVED] == len(good)
    for _ in range(5):
        if list(services.sessions.sessions(quarantined=True)):
            break
        wait_until(services.sessions.due_counts)
        totals += drain_all(services)
    assert list(services.sessions.sessions(quarantined=True)) == [bad.session_id]
    assert (totals[Outcome.QUARANTINED], sum(services.sessions.due_counts().values())) == (1, 0)
    assert totals[Outcome.FAILED] in (0, 2)  # where the metadata can't be read, no attempt can be counted
    assert re.search(error, raw(client, "HGET", metadata, "error").decode())
    assert {key: raw(client, "DUMP", key) for key in before} == before  # untouched
    assert archive_session(services, bad.session_id).outcome is Outcome.QUARANTINED
    for chat in good:
        chat.check()


def test_a_session_whose_metadata_is_no_hash_does_not_stop_the_others(client: redis.Redis, services: Services) -> None:
    chats = due_chats(services, 4)
    [messages] = raw(client, "KEYS", "*:m:chat 0")
    broken_metadata(client, messages, messages.replace(b":m:", b":s:"))
    assert drain_all(services)[Outcome.ARCHIVED] == 3
    assert raw(client, "LLEN", messages) == 2
    for chat in chats[1:]:
        chat.check()


def test_an_error_that_nobody_foresaw_is_counted_and_kept(services: Services) -> None:
    services = with_settings(services, max_attempts=2, retry_delay_seconds=0.01)
    chat = Chat(services)
    chat.say(2)
    for outcome in (Outcome.FAILED, Outcome.QUARANTINED):
        watched, points = watch(services)

        def surprise() -> None:
            raise ZeroDivisionError("surprise")

        points.at("before segment put", surprise)
        result = archive_session(watched, "s")
        assert (result.outcome, str(result.error)) == (outcome, "ZeroDivisionError")
    info = services.sessions.info("s")
    assert info
    assert (info.status, info.attempts, info.error) == (Status.QUARANTINED, 2, "ZeroDivisionError")
    assert services.sessions.messages("s", touch=False) == chat.acknowledged


def test_an_archive_that_is_down_postpones_counts_nothing_and_stops_claiming(services: Services) -> None:
    chats = due_chats(services, 20)
    watched, points = watch(services, concurrency=1, batch=1, retry_delay_seconds=0.1)

    def fail() -> None:
        points.at("before marker put", fail)
        raise ArchiveUnavailable("the archive is down")

    points.at("before marker put", fail)
    [(outcome, count)] = drain(watched, list(services.sessions.due_counts())).items()
    assert outcome is Outcome.POSTPONED
    assert count <= 3, "what is in work and what was claimed ahead of it"
    assert points.log.count("before marker put") == 1
    infos = [services.sessions.info(chat.session_id) for chat in chats]
    assert [info and (info.attempts, info.message_count) for info in infos] == [(0, 2)] * len(chats)
    assert [info.error for info in infos if info and info.error] == ["the archive is down"]

    archived = 0
    while archived < len(chats):
        wait_until(services.sessions.due_counts)
        archived += drain_all(services)[Outcome.ARCHIVED]
    for chat in chats:
        chat.check()


def test_no_number_of_failures_that_may_pass_leads_to_quarantine(services: Services) -> None:
    chat = Chat(services)
    chat.say(2)
    for _ in range(services.settings.max_attempts + 2):
        watched, points = watch(services)

        def fail() -> None:
            raise ArchiveUnavailable("the archive is down")

        points.at("after segment put", fail)
        assert archive_session(watched, "s").outcome is Outcome.POSTPONED
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    chat.check()


def test_a_failure_after_the_lease_was_renewed_gives_the_session_back_all_the_same(
    client: redis.Redis, services: Services
) -> None:
    chat = Chat(services)
    chat.say(2)
    watched, points = watch(services, lease_seconds=0.6, retry_delay_seconds=0.01)

    def fail() -> None:
        raise ArchiveUnavailable("Redis or the archive is down")

    points.at("before segment put", lambda: wait_until(lambda: points.log.count("after renew") >= 1))
    points.at("before commit", fail)
    assert archive_session(watched, "s").outcome is Outcome.POSTPONED
    info = services.sessions.info("s")
    assert info
    assert (info.attempts, info.error) == (0, "Redis or the archive is down")
    assert info.status is not Status.IN_WORK
    chat.check()


def test_threads_that_drain_the_same_shards_archive_each_session_once(services: Services) -> None:
    chats = due_chats(services, 40)
    due = list(services.sessions.due_counts())
    totals: list[Counter[Outcome]] = []
    threads = [threading.Thread(target=lambda: totals.append(drain(services, due))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(totals, Counter()) == {Outcome.ARCHIVED: len(chats)}
    segments = [stored for stored in services.archive.list("") if stored.name.endswith(".jsonl.gz")]
    assert len(segments) == len(chats)
    for chat in chats:
        assert transcript(services, chat.session_id) == chat.acknowledged


# What the archive must still have


@pytest.mark.parametrize("grown", [False, True])
def test_redis_keeps_a_session_whose_older_segment_is_missing(services: Services, grown: bool) -> None:  # noqa: FBT001
    services = with_settings(services, max_attempts=2)
    chat = Chat(services)
    chat.say(3)
    archive_session(services, "s")
    [first] = contents.look(services.archive, "s").segments
    restore_session(services, "s")
    if grown:
        chat.say(2)
    services.archive.delete(first.stored)
    results: list[AttemptResult] = [archive_session(services, "s") for _ in range(2)]
    assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.QUARANTINED]
    assert all(isinstance(result.error, SegmentMissing) for result in results)
    assert services.sessions.messages("s", touch=False) == chat.acknowledged
    info = services.sessions.info("s")
    assert info
    assert re.search("Redis keeps them|are missing before epoch", info.error or "")


def test_a_session_that_was_not_changed_since_it_woke_is_not_sent_again(services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    archive_session(services, "s")
    restore_session(services, "s")
    watched, points = watch(services)
    result = archive_session(watched, "s")
    assert (result.outcome, result.object_name, result.messages) == (Outcome.ARCHIVED, None, 3)
    assert not [point for point in points.log if point.endswith("put")]
    assert "before list" in points.log  # the archive was asked whether it still has them
    chat.check()


def test_the_owner_marker_is_there_before_the_first_segment(services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services)
    info = services.sessions.info("s")
    assert info
    marker = names.owner_marker("ann", "s", info.epoch)
    points.at("before segment put", lambda: [stored.name for stored in services.archive.list("")].index(marker))
    assert archive_session(watched, "s").outcome is Outcome.ARCHIVED
    assert not points.pending


# What an erasure that ran at the same time can leave behind; see DESIGN.md, "looks again after any lease has ended"


@pytest.mark.parametrize("erase", [clear_and_erase, Chat.purge])
def test_an_upload_that_was_killed_after_its_session_was_erased_never_comes_back(
    services: Services, erase: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.1)
    points.at("before segment put", lambda: erase(chat))
    killed(points, "after segment put", watched)
    chat.sleep()
    assert chat.wake() == []
    chat.sleep()
    chat.say(2)
    chat.sleep()
    assert transcript(services, "s") == chat.acknowledged
    assert chat.wake() == chat.acknowledged


@pytest.mark.parametrize("erase", [Chat.clear, Chat.purge])
def test_an_upload_that_was_killed_after_its_session_was_erased_is_erased_too(
    services: Services, erase: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.5)
    points.at("before segment put", lambda: erase(chat))
    killed(points, "after segment put", watched)
    wait_until(lambda: erased_for_good(services), what="the erasure has looked again after the lease")
    chat.check_erased()


def test_a_purge_during_an_upload_leaves_nothing_that_names_the_owner(services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.5)
    points.at("before marker put", chat.purge)
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    wait_until(lambda: erased_for_good(services), what="the erasure has looked again after the lease")
    assert [stored.name for stored in services.archive.list("v1/owners/")] == []


def erased_for_good(services: Services) -> bool:
    drain(services, list(services.sessions.due_counts()))
    return services.sessions.info("s") is None
