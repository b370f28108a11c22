"""Redis rewound by a failover, requests sent again, workers that die without a word, metadata that is lost."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.keyspace import dump, lasting_keys, raw
from support.servers import RedisServer
from support.sessions import purge_session, with_settings
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history import calls
from torpor.history.adapters.messages import encode_message
from torpor.history.calls import Call
from torpor.history.keys import ShardKeys
from torpor.history.protocol import (
    Expiry,
    Lease,
    OwnerMismatch,
    RedisUnavailable,
    SessionDamaged,
    SessionInfo,
    SessionStore,
    Status,
    TorporError,
)
from torpor.worker import cli, failpoints, tasks
from torpor.worker.archive import contents, names, ownership
from torpor.worker.archive import segment as transcript
from torpor.worker.archive.names import FloorName
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.folder import FolderStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import PREFIX
from torpor.worker.erasure import orders
from torpor.worker.erasure.purge import carry_out
from torpor.worker.erasure.receipts import PurgeState
from torpor.worker.errors import ArchiveTaken, SegmentMissing
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.leases import LeaseKeeper
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, read_transcript, restore_session

S = "s"
CLAIMS = count()


class Killed(BaseException):
    """The process ends here: nothing that handles errors sees it."""


def die(*_: object) -> None:
    raise Killed


@contextmanager
def at(failpoint: Failpoint, act: Callable[[], object] = die, times: int = 1) -> Iterator[None]:
    """Do this when the failpoint is reached for the first or a later time, and make sure that it is."""
    reached: list[Failpoint] = []

    def action(point: Failpoint) -> None:
        if point is failpoint:
            reached.append(point)
            if len(reached) == times:
                act()

    failpoints.arm(action)
    try:
        yield
    finally:
        failpoints.arm()
    assert len(reached) >= times


@contextmanager
def killed_at(failpoint: Failpoint, times: int = 1) -> Iterator[None]:
    with at(failpoint, times=times), pytest.raises(Killed):
        yield


def chat(client: redis.Redis, session_id: str = S, **options: Any) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, **options)


def say(client: redis.Redis, *texts: str, **options: Any) -> None:
    """One turn."""
    chat(client, **options).add_messages([HumanMessage(text) for text in texts])


def said(client: redis.Redis) -> list[Any]:
    return [message.content for message in chat(client).messages]


def told(elements: Sequence[bytes]) -> list[str]:
    """The texts of stored messages."""
    return [json.loads(element)["data"]["content"] for element in elements]


def described(services: Services) -> SessionInfo:
    info = services.sessions.info(S)
    assert info
    return info


def keys(services: Services) -> ShardKeys:
    return services.sessions.deployment.keyspace.of(S.encode())


def sleep(services: Services) -> None:
    assert archive_session(services, S).outcome is Outcome.ARCHIVED


def drain_due(services: Services) -> dict[Outcome, int]:
    return dict(drain(services, list(services.sessions.due_counts())))


def end_lease(client: redis.Redis, services: Services) -> None:
    """Let the moment pass until which the session was a worker's own."""
    raw(client, "ZADD", keys(services).due, "XX", 1, S)


def object_names(archive: ArchiveStore) -> list[str]:
    return [stored.name for stored in archive.list("v1/")]


class Replica:
    """What a replica has that gets nothing any more from now on."""

    def __init__(self, client: redis.Redis, services: Services) -> None:
        self._client, self._services = client, services
        self._dump = {key: value for key, value in dump(client).items() if key in lasting_keys(client)}

    def promote(self) -> None:
        """Fail over to it."""
        for key in raw(self._client, "KEYS", "*"):
            raw(self._client, "DEL", key)
        for key, value in self._dump.items():
            raw(self._client, "RESTORE", key, 0, value)
        self._let_the_archive_see_another_time()

    def _let_the_archive_see_another_time(self) -> None:
        """A folder's clock moves in steps of milliseconds, a failover takes seconds."""
        archive = self._services.archive
        newest = max((stored.generation for stored in archive.list("v1/")), default=0)

        def passed() -> bool:
            probe = archive.put("probe", io.BytesIO(), 0, metadata={})
            archive.delete(probe)
            return probe.generation > newest

        wait_until(passed)


# Whose archive it is


def of_namespace(services: Services, namespace: str) -> Services:
    sessions = SessionStore(services.sessions.client, namespace=namespace)
    return replace(with_settings(services, namespace=namespace), sessions=sessions)


def test_an_archive_is_one_namespace_s_alone(services: Services) -> None:
    assert not ownership.is_taken(services.archive, "torpor")
    for _ in range(2):
        ownership.take(services.archive, "torpor")
    for same in (services.archive, open_archive(services.archive.url)):
        with pytest.raises(ArchiveTaken, match="another namespace than 'other'"):
            ownership.take(same, "other")
        with pytest.raises(ArchiveTaken, match="another namespace than 'other'"):
            ownership.is_taken(same, "other")
        assert ownership.is_taken(same, "torpor")
    assert object_names(services.archive) == [names.DEPLOYMENT]


Command = Callable[..., int]


@pytest.fixture
def torpor(services: Services, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process with the services' settings; returns its exit code."""
    for name, value in {**redis_server.settings, "archive_url": services.archive.url}.items():
        monkeypatch.setenv(PREFIX + name.upper(), str(value))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["torpor", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


def test_commands_and_tasks_refuse_another_namespace_s_archive_and_keep_its_sessions_in_redis(
    client: redis.Redis, services: Services, torpor: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(client, "ours")
    assert torpor("archive", S) == 0
    before = object_names(services.archive)
    say(client, "theirs", namespace="other")
    for refused in (("archive", S), ("restore", S), ("purge", "--session", S, "--yes")):
        assert torpor("--namespace", "other", *refused) == 1
    monkeypatch.setenv(PREFIX + "NAMESPACE", "other")
    with pytest.raises(ArchiveTaken):
        tasks.services.__wrapped__()
    assert object_names(services.archive) == before
    assert [message.content for message in chat(client, namespace="other").messages] == ["theirs"]
    monkeypatch.delenv(PREFIX + "NAMESPACE")
    assert torpor("restore", S) == 0
    assert said(client) == ["ours"]


# Redis rewound


def claimed_by_another_worker(services: Services) -> None:
    # Seconds apart from each other and from the 30 of a drain, so that no two claims have one token.
    lease = services.sessions.claim_one(S, timedelta(seconds=60 + next(CLAIMS)))
    assert isinstance(lease, Lease)
    assert services.sessions.snapshots([lease]) != [None]


@pytest.mark.parametrize("claimed", [False, True], ids=["unclaimed", "claimed"])
@pytest.mark.parametrize("written", ["after the commit", "before the commit"])
def test_a_commit_after_a_failover_does_not_vouch_for_what_redis_no_longer_has(
    client: redis.Redis, services: Services, written: str, *, claimed: bool
) -> None:
    say(client, *"01234567")
    replica = Replica(client, services)
    say(client, "8", "9")

    def fail_over() -> None:
        replica.promote()
        if written == "before the commit":
            say(client, "other 8", "other 9")
        if claimed:
            claimed_by_another_worker(services)

    with at(Failpoint.ARCHIVE_VERIFIED, fail_over):
        result = archive_session(services, S)
    assert result.outcome is Outcome.KEPT
    assert described(services).archived_count == 0
    if written == "after the commit":
        say(client, "other 8", "other 9")
    end_lease(client, services)
    sleep(services)
    restored = restore_session(services, S)
    assert said(client) == [*"01234567", "other 8", "other 9"]
    assert restored.forks == (result.object_name,)


def test_a_restore_of_a_rewound_session_leaves_later_epochs_aside_and_the_next_one_has_everything(
    client: redis.Redis, services: Services
) -> None:
    say(client, "0", "1")
    replica = Replica(client, services)
    sleep(services)
    restore_session(services, S)
    say(client, "2")
    later = archive_session(services, S).object_name
    replica.promote()

    restored = restore_session(services, S)
    assert (restored.outcome, restored.messages, restored.forks) == (RestoreOutcome.RESTORED, 0, (later,))
    assert said(client) == told(read_transcript(services, S)) == ["0", "1"]
    say(client, "3")
    assert said(client) == ["0", "1", "3"]
    sleep(services)
    assert sorted(told(read_transcript(services, S))) == ["0", "1", "2", "3"]
    assert restore_session(services, S).forks == ()
    assert sorted(said(client)) == ["0", "1", "2", "3"]
    assert said(client)[:3] == ["0", "1", "3"]
    sleep(services)
    restore_session(services, S)
    assert sorted(said(client)) == ["0", "1", "2", "3"]


def test_a_fork_that_is_shorter_than_what_it_left_aside_does_not_cut_off_later_epochs(
    client: redis.Redis, services: Services
) -> None:
    say(client, "0")
    replica = Replica(client, services)
    say(client, "1", "2")
    aside = archive_session(services, S).object_name
    restore_session(services, S)
    say(client, "3")
    sleep(services)
    replica.promote()
    say(client, "other 1")
    sleep(services)
    assert restore_session(services, S).forks == (aside,)
    assert said(client) == ["0", "other 1", "3"]


@pytest.mark.parametrize("live", [False, True], ids=["asleep", "written to"])
def test_a_whole_epoch_that_is_missing_in_the_archive_is_named_and_redis_stays_as_it_was(
    client: redis.Redis, services: Services, *, live: bool
) -> None:
    say(client, "0", "1")
    sleep(services)
    restore_session(services, S)
    say(client, "2")
    sleep(services)
    first, second = contents.look(services.archive, S).segments
    assert services.archive.delete(first.stored)
    if live:
        say(client, "3")
    before = dump(client)
    gap = f"2 messages are missing before epoch {second.name.epoch}"
    with pytest.raises(SegmentMissing, match=gap):
        restore_session(services, S)
    with pytest.raises(SegmentMissing, match=gap):
        read_transcript(services, S)
    assert dump(client) == before


# Requests sent again


def turn(services: Services, text: str) -> Call[int | None]:
    """A turn as a client sends it, and sends it again where the reply is lost."""
    return calls.append(
        services.sessions.configure(idle=timedelta(hours=1), max_age=None),
        S,
        [encode_message(HumanMessage(text))],
        request=os.urandom(8),
        expiry=Expiry(),
        owner=None,
    )


def clear(services: Services) -> Call[int]:
    deployment = services.sessions.configure(idle=timedelta(hours=1), max_age=None)
    return calls.clear(deployment, S, request=os.urandom(8))


def close_and_drain(services: Services, outcome: Outcome = Outcome.ARCHIVED) -> None:
    services.sessions.close(S)
    assert drain_due(services) == {outcome: 1}


@pytest.mark.parametrize("meanwhile", ["nothing", "another turn", "another turn, archived too"])
def test_a_turn_that_is_sent_again_after_the_session_went_to_sleep_is_written_once(
    client: redis.Redis, services: Services, meanwhile: str
) -> None:
    lost = turn(services, "once")
    services.sessions.run(lost)
    close_and_drain(services)
    if meanwhile != "nothing":
        say(client, "another")
    if meanwhile == "another turn, archived too":
        close_and_drain(services)
    services.sessions.run(lost)
    assert said(client) == (["another"] if meanwhile == "another turn" else [])
    restore_session(services, S)
    assert said(client) == (["once"] if meanwhile == "nothing" else ["once", "another"])


def test_a_turn_that_is_sent_again_after_the_session_slept_and_woke_is_written_once(
    client: redis.Redis, services: Services
) -> None:
    lost = turn(services, "once")
    services.sessions.run(lost)
    close_and_drain(services)
    restore_session(services, S)
    services.sessions.run(lost)
    assert said(client) == ["once"]


def test_a_turn_that_is_sent_again_after_the_session_slept_and_was_cleared_stays_cleared(
    client: redis.Redis, services: Services
) -> None:
    lost = turn(services, "cleared")
    services.sessions.run(lost)
    close_and_drain(services)
    services.sessions.clear(S)
    services.sessions.run(lost)
    assert said(client) == []


def test_what_a_sleeping_session_has_seen_is_forgotten_within_a_minute(client: redis.Redis, services: Services) -> None:
    services.sessions.run(turn(services, "now"))
    sleep(services)
    remembered = keys(services).recent_requests(S.encode())
    assert set(raw(client, "KEYS", "*")) - lasting_keys(client) == {remembered}
    assert 0 < raw(client, "PTTL", remembered) <= 60_000


def test_a_session_that_was_idle_for_a_minute_leaves_no_request_behind(client: redis.Redis, services: Services) -> None:
    services.sessions.run(turn(services, "a minute ago"))
    metadata = keys(services).metadata(S.encode())
    active = int(raw(client, "HGET", metadata, "active"))
    raw(client, "HSET", metadata, "active", active - 60_000)
    close_and_drain(services)
    assert set(raw(client, "KEYS", "*")) == lasting_keys(client)


@pytest.mark.parametrize("existing", [False, True], ids=["a new session", "an existing session"])
def test_a_clear_that_is_sent_again_spares_what_was_written_meanwhile(
    client: redis.Redis, services: Services, *, existing: bool
) -> None:
    if existing:
        say(client, "old")
    lost = clear(services)
    epoch = services.sessions.run(lost)
    say(client, "somebody else's")
    assert services.sessions.run(lost) == epoch
    assert said(client) == ["somebody else's"]
    assert services.sessions.clear(S) > epoch
    assert said(client) == []


def test_a_clear_that_is_sent_again_spares_what_was_written_and_archived_meanwhile(
    client: redis.Redis, services: Services
) -> None:
    lost = clear(services)
    services.sessions.run(lost)
    say(client, "somebody else's")
    assert drain_due(services) == {Outcome.ERASED: 1}
    close_and_drain(services)
    services.sessions.run(lost)
    restore_session(services, S)
    assert said(client) == ["somebody else's"]


def test_a_turn_that_is_sent_again_after_a_clear_stays_cleared(client: redis.Redis, services: Services) -> None:
    lost = turn(services, "cleared")
    services.sessions.run(lost)
    services.sessions.clear(S)
    assert services.sessions.run(lost) == 0
    assert said(client) == []
    say(client, "new")
    services.sessions.run(lost)
    assert said(client) == ["new"]


def test_a_renewal_that_is_sent_again_gives_the_same_lease(client: redis.Redis, services: Services) -> None:
    say(client, "0")
    lease = services.sessions.claim_one(S, timedelta(seconds=30))
    assert isinstance(lease, Lease)
    call = calls.renew(services.sessions.deployment, lease, timedelta(seconds=10))
    renewed = services.sessions.run(call)
    assert renewed
    assert services.sessions.run(call) == renewed
    assert float(renewed.token) == float(lease.token) + 10_000
    assert float(raw(client, "ZSCORE", keys(services).due, S)) == float(renewed.token)
    say(client, "1")
    assert services.sessions.run(call) is None


class LossySessions(SessionStore):
    """Loses the first reply to a renewal."""

    renewals = 0

    def renew(self, leases: Sequence[Lease], by: timedelta) -> list[Lease | TorporError | None]:
        renewed = super().renew(leases, by)
        self.renewals += 1
        if self.renewals == 1:
            raise RedisUnavailable("the reply is lost")
        return renewed


def test_a_lost_reply_to_a_renewal_does_not_lose_the_leases(client: redis.Redis, services: Services) -> None:
    say(client, "0")
    sessions = LossySessions(client)
    lease = sessions.claim_one(S, timedelta(seconds=30))
    assert isinstance(lease, Lease)
    with LeaseKeeper(sessions, timedelta(milliseconds=100)) as keeper:
        keeper.keep([lease])
        wait_until(lambda: sessions.renewals >= 3)
        assert not keeper.lost(lease)
    newest = keeper.take(lease)
    assert newest
    assert float(raw(client, "ZSCORE", keys(services).due, S)) == float(newest.token)


# Workers that fail


def test_a_session_at_which_its_workers_die_goes_to_quarantine(client: redis.Redis, services: Services) -> None:
    say(client, "0")
    for _ in range(services.settings.max_attempts):
        claimed_by_another_worker(services)
        end_lease(client, services)
    assert drain_due(services) == {Outcome.QUARANTINED: 1}
    info = described(services)
    assert info.status is Status.QUARANTINED
    assert info.error == f"{services.settings.max_attempts} attempts ended without a word: their workers died"
    assert said(client) == ["0"]
    assert object_names(services.archive) == []


def test_a_session_is_tried_as_often_as_the_settings_say_though_its_workers_die(
    client: redis.Redis, services: Services
) -> None:
    say(client, "0")
    for _ in range(services.settings.max_attempts - 1):
        claimed_by_another_worker(services)
        end_lease(client, services)
    assert drain_due(services) == {Outcome.ARCHIVED: 1}


class FullDisk(io.BytesIO):
    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def no_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("short", ["of disk", "of memory"])
def test_a_machine_that_is_short_of_room_postpones_and_blames_no_session(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    say(client, "0")
    with monkeypatch.context() as patch:
        if short == "of disk":
            patch.setattr(tempfile, "SpooledTemporaryFile", lambda **_: FullDisk())
        else:
            patch.setattr(transcript, "pack", no_memory)
        for _ in range(services.settings.max_attempts + 1):
            assert archive_session(services, S).outcome is Outcome.POSTPONED
    info = described(services)
    assert (info.attempts, info.message_count, info.archived_count) == (0, 1, 0)
    assert object_names(services.archive) == []
    sleep(services)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.QUARANTINED])
def test_the_text_of_an_unknown_error_is_told_to_nobody_but_where_it_happened_is(
    client: redis.Redis,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: Outcome,
) -> None:
    services = with_settings(services, max_attempts=1 if outcome is Outcome.QUARANTINED else 2)
    secret = "what the user confided"
    say(client, "0")

    def look_into(element: bytes) -> bool:
        raise ValueError(f"{secret}: {element!r}")

    monkeypatch.setattr(transcript, "is_plain", look_into)
    with caplog.at_level("DEBUG"):
        result = archive_session(services, S)
    assert (result.outcome, str(result.error)) == (outcome, "ValueError")
    assert described(services).error == "ValueError"
    assert secret not in repr(raw(client, "HGETALL", keys(services).metadata(S.encode())))
    [record] = [record for record in caplog.records if record.name == "torpor.archive"]
    assert record.getMessage().startswith(f"session 's': {outcome}: ValueError\n")
    assert "in look_into" in record.getMessage()
    assert record.exc_info is None
    assert secret not in caplog.text
    assert secret not in repr(result)


# Metadata that is lost


@pytest.mark.parametrize("woken", [False, True], ids=["never archived", "archived before"])
def test_a_session_whose_metadata_is_lost_is_neither_archived_nor_doubled(
    client: redis.Redis, services: Services, *, woken: bool
) -> None:
    say(client, "0", "1")
    if woken:
        sleep(services)
        restore_session(services, S)
    archived = object_names(services.archive)
    raw(client, "DEL", keys(services).metadata(S.encode()))
    say(client, "2")
    assert said(client) == ["0", "1", "2"]
    for attempt in range(1, services.settings.max_attempts + 1):
        with pytest.raises(SessionDamaged):
            restore_session(services, S)
        last = attempt == services.settings.max_attempts
        assert drain_due(services) == {Outcome.QUARANTINED if last else Outcome.FAILED: 1}
        end_lease(client, services)
    info = described(services)
    assert info.status is Status.QUARANTINED
    assert info.error
    assert "torpor doctor" in info.error
    with pytest.raises(SessionDamaged):
        restore_session(services, S)
    say(client, "3")
    assert said(client) == told(read_transcript(services, S)) == ["0", "1", "2", "3"]
    assert object_names(services.archive) == archived
    assert archive_session(services, S).outcome is Outcome.QUARANTINED


# Owners


def test_an_owner_who_comes_after_the_first_archive_gets_a_marker_with_the_next(
    client: redis.Redis, services: Services
) -> None:
    say(client, "0")
    sleep(services)
    restore_session(services, S)
    say(client, "1", owner="ann")
    marker = names.owner_marker("ann", S, described(services).epoch)
    assert marker not in object_names(services.archive)
    sleep(services)
    assert marker in object_names(services.archive)


def prepare_owned(client: redis.Redis, services: Services) -> None:
    """Two segments of two epochs, and the owner's marker."""
    ownership.take(services.archive, services.settings.namespace)
    say(client, "0", owner="ann")
    sleep(services)
    restore_session(services, S)
    say(client, "1")
    sleep(services)
    assert len(markers(services)) == 2


def markers(services: Services) -> list[str]:
    return [stored.name for stored in services.archive.list(names.owner_markers("ann", S))]


def assert_erased(services: Services) -> None:
    """Nothing is left but floor markers and whose archive it is."""
    assert services.sessions.info(S) is None
    ours = (names.DEPLOYMENT, names.ORDERS, names.RECEIPTS)
    left = [name for name in object_names(services.archive) if not name.startswith(ours)]
    assert {type(names.parse(S, name)) for name in left} <= {FloorName}


CLEAN = [(point, 1) for point in Failpoint if point.startswith("clean.")]
CLEAN.append((Failpoint.CLEAN_DELETED, 2))  # the last segment, and with it the last to tell whose they were
PURGE: list[tuple[Failpoint, int]] = [
    (point, 1) for point in Failpoint if point.startswith("purge.") and point is not Failpoint.PURGE_TRIMMED
]
PURGE += [case for case in CLEAN if case[0] not in (Failpoint.CLEAN_ERASED, Failpoint.CLEAN_NOTED)]


@pytest.mark.parametrize("awake", [False, True], ids=["asleep", "awake"])
@pytest.mark.parametrize(("failpoint", "times"), CLEAN)
def test_a_clear_whose_worker_is_killed_erases_all_markers_and_segments_in_the_end(
    client: redis.Redis, services: Services, failpoint: Failpoint, times: int, *, awake: bool
) -> None:
    prepare_owned(client, services)
    if awake:
        restore_session(services, S)
    chat(client).clear()
    with killed_at(failpoint, times):
        archive_session(services, S)
    segments = [name for name in object_names(services.archive) if name.endswith(".jsonl.gz")]
    assert segments or not markers(services)
    end_lease(client, services)
    sleep(services)
    assert_erased(services)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize("awake", [False, True], ids=["asleep", "awake"])
@pytest.mark.parametrize(("failpoint", "times"), PURGE)
def test_a_purge_that_is_killed_erases_all_markers_and_segments_in_the_end(
    client: redis.Redis, services: Services, failpoint: Failpoint, times: int, *, awake: bool
) -> None:
    services = with_settings(services, tombstone_seconds=1)
    prepare_owned(client, services)
    if awake:
        restore_session(services, S)
    with killed_at(failpoint, times):
        purge_session(services, S)
    [unfinished] = orders.open_orders(services)
    assert carry_out(services, unfinished).state is PurgeState.COMPLETE
    end_tombstone(services)
    assert_erased(services)


def test_a_purge_during_an_upload_leaves_no_marker(client: redis.Redis, services: Services) -> None:
    services = with_settings(services, lease_seconds=1)
    say(client, "0", owner="ann")

    def purge() -> None:
        end_lease(client, services)
        purge_session(with_settings(services, tombstone_seconds=1), S)

    with at(Failpoint.ARCHIVE_PACKED, purge):
        assert archive_session(services, S).outcome is Outcome.SUPERSEDED
    end_tombstone(services)
    assert_erased(services)


def end_tombstone(services: Services) -> None:
    def ended() -> bool:
        drain(services, list(services.sessions.due_counts()))
        return services.sessions.info(S) is None

    wait_until(ended, what="the tombstone has ended")


def test_two_owners_of_one_session_id_never_share_a_transcript(client: redis.Redis, services: Services) -> None:
    say(client, "ann's", owner="ann")
    sleep(services)
    say(client, "bob's", owner="bob")
    before = described(services)
    with pytest.raises(OwnerMismatch):
        restore_session(services, S)
    assert said(client) == ["bob's"]
    assert not raw(client, "KEYS", "*:r:*")
    after = described(services)
    assert (after.owner, after.status, after.epoch, after.restored_count) == ("bob", Status.LIVE, before.epoch, 0)
    say(client, "bob's again", owner="bob")
    sleep(services)
    assert services.sessions.info(S) is None


@pytest.mark.parametrize("live", [False, True], ids=["both asleep", "one awake"])
def test_what_the_archive_has_of_two_owners_is_not_read_as_one_transcript(
    client: redis.Redis, services: Services, *, live: bool
) -> None:
    say(client, "ann's", owner="ann")
    sleep(services)
    say(client, "bob's", owner="bob")
    if not live:
        sleep(services)
    with pytest.raises(OwnerMismatch):
        read_transcript(services, S)
    with pytest.raises(OwnerMismatch):
        restore_session(services, S)
    assert said(client) == (["bob's"] if live else [])


# A folder whose writer is killed

NAME = "v1/ab/s/1/0-1-01234567.jsonl.gz"


@dataclass
class Folder:
    root: Path

    def put(self) -> None:
        """As a process that has just started."""
        FolderStore(self.root).put(NAME, io.BytesIO(b"content"), 7, metadata={"count": "1"})

    def erase(self) -> None:
        store = FolderStore(self.root)
        for stored in store.list("v1/", generations=True):
            assert store.delete(stored)

    def put_killed(self, patch: pytest.MonkeyPatch, module: Any, step: str) -> None:
        """Of a process that is killed nothing is cleaned up."""
        with patch.context() as killing:
            killing.setattr(module, step, die)
            killing.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(Killed):
                self.put()

    def files(self, under: str = "") -> list[str]:
        found = (self.root / under).rglob("*")
        return sorted(path.relative_to(self.root).as_posix() for path in found if path.is_file())

    def list(self) -> list[tuple[str, dict[str, str]]]:
        return [(stored.name, dict(stored.metadata)) for stored in FolderStore(self.root).list("v1/")]

    def read(self) -> bytes:
        store = FolderStore(self.root)
        [stored] = store.list(NAME)
        with store.open(stored) as body:
            return body.read()


@pytest.fixture
def folder(scratch: Path) -> Folder:
    return Folder(scratch / "archive")


@pytest.mark.parametrize(("module", "step"), [(os, "fsync"), (Path, "replace"), (os, "link")])
def test_a_put_that_is_killed_leaves_no_object(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, module: Any, step: str
) -> None:
    folder.put()
    folder.erase()
    folder.put_killed(monkeypatch, module, step)
    assert folder.list() == []
    folder.put()
    assert folder.list() == [(NAME, {"count": "1"})]
    assert folder.read() == b"content"


@pytest.mark.parametrize("removed_by", ["an erasure", "the expiry"])
def test_what_a_killed_put_knew_of_an_object_is_removed_by_an_erasure_and_by_the_expiry(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, removed_by: str
) -> None:
    folder.put_killed(monkeypatch, os, "link")
    assert folder.files("v1") == [f"{NAME}=.meta.json"]
    if removed_by == "an erasure":
        [left] = FolderStore(folder.root).list("v1/", generations=True)
        assert (left.name, left.size, left.current) == (NAME, 0, False)
        assert FolderStore(folder.root).delete(left) is True
        assert FolderStore(folder.root).delete(left) is False
    else:
        assert FolderStore(folder.root).expire(datetime.now(UTC)) == 0
    assert not (folder.root / "v1").exists()
    assert list(FolderStore(folder.root).list("", generations=True)) == []


def test_a_deletion_that_is_killed_is_finished_by_the_next(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put()
    unlink = Path.unlink

    def unlink_one(path: Path, **options: Any) -> None:
        if path.name.endswith(".json"):
            die()
        unlink(path, **options)

    with monkeypatch.context() as killing:
        killing.setattr(Path, "unlink", unlink_one)
        with pytest.raises(Killed):
            folder.erase()
    assert folder.list() == []
    folder.erase()
    assert not (folder.root / "v1").exists()


def test_what_killed_puts_left_is_removed_an_hour_later_by_the_next_process(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put_killed(monkeypatch, os, "link")
    [old] = folder.files("tmp")
    folder.put_killed(monkeypatch, os, "link")
    [young] = set(folder.files("tmp")) - {old}
    for name, minutes in ((old, 61), (young, 59)):
        moment = time.time() - 60 * minutes
        os.utime(folder.root / name, (moment, moment))
    folder.put()
    assert folder.files("tmp") == [young]
    assert folder.list() == [(NAME, {"count": "1"})]


def test_an_object_whose_metadata_was_lost_is_readable_and_mended_by_the_next_put(folder: Folder) -> None:
    folder.put()
    (folder.root / f"{NAME}=.meta.json").unlink()
    assert folder.list() == [(NAME, {})]
    assert folder.read() == b"content"
    folder.put()
    assert folder.list() == [(NAME, {"count": "1"})]
    assert folder.read() == b"content"


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_session_whose_worker_was_killed_before_the_metadata_of_its_segment_wakes_up_whole(
    client: redis.Redis, services: Services, scratch: Path
) -> None:
    say(client, "0", owner="ann", ttl=3600)
    with killed_at(Failpoint.ARCHIVE_SENT):
        archive_session(services, S)
    [metadata] = (path for path in (scratch / "archive").rglob("*.jsonl.gz=.meta.json"))
    metadata.unlink()
    end_lease(client, services)
    sleep(services)
    restore_session(services, S)
    assert said(client) == ["0"]
    assert described(services).expiry == Expiry(timedelta(hours=1))


# What only looks


@pytest.mark.parametrize(
    "command", ["status", "sessions", f"show {S}", f"export {S}", f"purge --session {S} --dry-run"]
)
def test_a_command_that_only_looks_records_nothing_in_an_empty_redis(
    client: redis.Redis, services: Services, torpor: Command, command: str
) -> None:
    assert torpor(*command.split()) == (3 if S in command.split() else 0)
    assert raw(client, "KEYS", "*") == []
    assert list(services.archive.list("")) == []


def test_a_look_at_an_empty_redis_records_nothing(client: redis.Redis, services: Services) -> None:
    empty = chat(client)
    assert (empty.info(), empty.messages, empty.close()) == (None, [], False)
    assert services.sessions.due_counts() == {}
    assert drain(services, [0]) == {}
    assert raw(client, "KEYS", "*") == []
    empty.add_messages([AIMessage("first")])
    assert b"torpor:config" in raw(client, "KEYS", "*")
