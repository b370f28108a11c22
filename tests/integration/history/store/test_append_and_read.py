"""Appending to a session and reading it, page by page, on a real Redis."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from support.keyspace import dump, raw
from support.sessions import commit
from support.stored_sessions import HOUR, A, B, C, D, claim_due, described, fill, snapshot_of
from support.watched_clients import WatchedRedis
from torpor.history import calls
from torpor.history.clients.blocking import run_sync
from torpor.history.protocol import (
    CommitOutcome,
    Expiry,
    InvalidSessionId,
    OwnerMismatch,
    SessionExists,
    SessionStore,
    Status,
)
from torpor.history.store import reading

# Appending and reading


def test_append_returns_the_length_of_the_transcript(store: SessionStore) -> None:
    assert store.append("s", [A, B]) == 2
    assert store.append("s", [C]) == 3
    assert store.messages("s") == [A, B, C]


def test_stored_bytes_come_back_untouched_whatever_they_are(store: SessionStore) -> None:
    elements = [b"", b"\x00", b"\xff\xfe", b"\r\n", '{"ü":"😀"}'.encode(), b" { } "]
    store.append("s", elements)
    assert store.messages("s") == elements


def test_the_last_messages_are_read_in_pages_though_each_page_finds_more_messages(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE_BYTES", 1)  # one message a page
    store.append("s", [A, B, C])
    read = calls.read

    def read_after_a_write(*args: Any, **kwargs: Any) -> calls.Call[Any]:
        store.append("s", [D])
        return read(*args, **kwargs)

    monkeypatch.setattr(calls, "read", read_after_a_write)
    transcript = run_sync(store.operations.transcript("s", -3))
    assert transcript is not None
    assert transcript.messages == [B, C, D]


def test_a_turn_that_is_sent_again_is_written_once(store: SessionStore, client: redis.Redis) -> None:
    def turn(turn_id: bytes, *messages: bytes) -> calls.Call[int | None]:
        return calls.append(
            store.deployment,
            "s",
            messages,
            request=turn_id,
            expiry=Expiry(),
            owner=None,
            only_new=turn_id == b"turn-one",
        )

    first, second = turn(b"turn-one", A, B), turn(b"turn-two", C)
    assert [store.run(first), store.run(first)] == [2, 2]
    assert store.run(second) == 3
    before = dump(client)
    assert [store.run(first), store.run(second)] == [3, 3]
    assert dump(client) == before
    assert store.messages("s") == [A, B, C]


def test_a_turn_is_known_for_a_minute_among_sixty_three_others(store: SessionStore, client: redis.Redis) -> None:
    first = calls.append(store.deployment, "s", [A], request=b"turn-one", expiry=Expiry(), owner=None)
    store.run(first)
    for number in range(63):
        store.append("s", [B])
        assert store.run(first) == number + 2
    assert len(raw(client, "HGET", "{torpor:0}:s:s", "seen")) == 64 * 10


@pytest.mark.parametrize(
    ("seconds_ago", "remembered"),
    [(0, True), (50, True), (65, False), (600, False), (86_400, False), (-60, True), (-600, True)],
)
def test_a_request_is_remembered_for_a_minute_by_a_clock_that_may_be_set_back(
    store: SessionStore, client: redis.Redis, seconds_ago: int, *, remembered: bool
) -> None:
    store.append("s", [A])
    moment = (raw(client, "TIME")[0] - seconds_ago) // 4 % 65_536
    raw(client, "HSET", "{torpor:0}:s:s", "seen", b"request!" + moment.to_bytes(2))
    store.append("s", [B])
    seen: bytes = raw(client, "HGET", "{torpor:0}:s:s", "seen")
    assert (b"request!" in seen, len(seen)) == (remembered, 20 if remembered else 10)


def test_what_six_turns_of_a_minute_leave_is_packed(store: SessionStore, client: redis.Redis) -> None:
    for _ in range(6):
        store.append("s", [A], expiry=Expiry(idle=HOUR), owner="ann")
    # The first byte of a dump tells the encoding: https://rdb.fnordig.de/file_format.html#value-type
    assert raw(client, "DUMP", "{torpor:0}:s:s")[0] in (13, 16), "a ziplist, or a listpack from Redis 7 on"


def test_two_turns_of_the_same_words_are_both_written(store: SessionStore) -> None:
    fill(store, "s", "s")
    assert store.messages("s") == [A, B, A, B]


def test_only_new_refuses_a_session_that_is_there(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [A], only_new=True)
    before = dump(client)
    with pytest.raises(SessionExists, match="'s'"):
        store.append("s", [B], only_new=True)
    assert dump(client) == before


def test_an_owner_is_recorded_once_and_for_all(store: SessionStore, client: redis.Redis) -> None:
    store.append("s", [A], owner="ann")
    store.append("s", [A])
    before = dump(client)
    with pytest.raises(OwnerMismatch, match="'bob'"):
        store.append("s", [B], owner="bob")
    assert dump(client) == before
    assert described(store).owner == "ann"
    assert raw(client, "SMEMBERS", "{torpor:0}:o:ann") in ([b"s"], {b"s"})


def test_an_error_about_arguments_is_raised_before_anything_is_sent(watched: WatchedRedis) -> None:
    store = SessionStore(watched)
    store.append("s", [A])
    watched.commands.clear()
    for attempt in (store.info, store.messages, store.clear, store.close):
        with pytest.raises(InvalidSessionId):
            attempt("")
    assert watched.commands == []


def test_reading_without_touch_changes_nothing(store: SessionStore, client: redis.Redis) -> None:
    fill(store, "s")
    store.close("s")
    before = dump(client)
    assert store.messages("s", touch=False) == [A, B]
    assert [page.messages for page in store.pages("s")] == [[A, B]]
    assert dump(client) == before
    assert store.messages("s") == [A, B]
    assert described(store).status is Status.LIVE


def test_pages_are_of_about_a_mebibyte_and_tell_their_state(store: SessionStore) -> None:
    elements = [b'{"n":"%04d-%b"}' % (number, b"x" * 2000) for number in range(5000)]
    store.append("s", elements)
    pages = list(store.pages("s"))
    assert [message for page in pages for message in page.messages] == elements
    assert [page.start for page in pages] == [0, *(page.stop for page in pages[:-1])]
    assert pages[-1].stop == 5000
    info = described(store)
    assert {(page.epoch, page.restored_count, page.total) for page in pages} == {(info.epoch, 0, 5000)}
    sizes = [sum(map(len, page.messages)) for page in pages]
    assert all(2**20 <= size < 2**20 + 200_000 for size in sizes[:-1])
    assert store.messages("s") == elements


def test_pages_can_be_of_a_part(store: SessionStore) -> None:
    store.append("s", [A, B, C, D])

    def part(start: int, stop: int | None) -> list[bytes]:
        return [message for page in store.pages("s", start, stop) for message in page.messages]

    assert part(1, 3) == [B, C]
    assert part(2, None) == [C, D]
    assert part(0, 9) == [A, B, C, D]
    assert part(4, None) == part(9, None) == part(2, 2) == []
    assert list(store.pages("nobody")) == []


@pytest.mark.parametrize("after", [[b"y" * 1024] * 4000, []], ids=["cleared and used", "cleared"])
def test_messages_never_mix_what_was_before_a_clear_and_after_it(
    sessions: SessionStore, watched: WatchedRedis, after: list[bytes]
) -> None:
    sessions.append("s", [b"x" * 1024] * 3000)
    reader = SessionStore(watched)
    assert len(reader.messages("s")) == 3000

    def clear_before_the_second_page(command: str) -> None:
        if len(watched.commands) == 2:
            sessions.clear("s")
            if after:
                sessions.append("s", after)

    watched.commands.clear()
    watched.before = clear_before_the_second_page
    assert reader.messages("s") == after
    assert len(watched.commands) > 2


def test_messages_that_are_added_between_two_pages_are_read_too(sessions: SessionStore, watched: WatchedRedis) -> None:
    sessions.append("s", [b"x" * 1024] * 2000)
    reader = SessionStore(watched)
    _ = reader.deployment

    def append_before_the_second_page(command: str) -> None:
        if len(watched.commands) == 2:
            sessions.append("s", [A])

    watched.commands.clear()
    watched.before = append_before_the_second_page
    assert reader.messages("s") == [b"x" * 1024] * 2000 + [A]


def test_a_session_that_leaves_redis_between_two_pages_is_not_there(store: SessionStore, watched: WatchedRedis) -> None:
    store.append("s", [b"x" * 1024] * 2000)
    reader = SessionStore(watched)
    _ = reader.deployment

    def archive_before_the_second_page(command: str) -> None:
        if len(watched.commands) == 2:
            lease = claim_due(store)
            assert commit(store, lease, snapshot_of(store, lease)) is CommitOutcome.DELETED

    watched.commands.clear()
    watched.before = archive_before_the_second_page
    assert reader.messages("s") == []


def test_the_last_messages_are_as_many_as_were_asked_for_though_the_session_grows(store: SessionStore) -> None:
    store.append("s", [b"%d" % number * 400_000 for number in range(1, 7)])
    pages = store.pages("s", -6)
    found = list(next(pages).messages)
    store.append("s", [A, B, C])
    for page in pages:
        found += page.messages
    assert [element[:1] for element in found] == [b"1", b"2", b"3", b"4", b"5", b"6"]
