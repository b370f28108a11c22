"""Redis after a failover that lost its last writes."""

from __future__ import annotations

import io

import pytest
import redis

from support.keyspace import dump, lasting_keys, raw
from support.rewinding import S, at, claimed_by_another_worker, described, end_lease, said, say, sleep, texts
from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.errors import SegmentMissing
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session


class Replica:
    """The data of a replica that gets nothing from its primary any more."""

    def __init__(self, client: redis.Redis, services: Services) -> None:
        self._client, self._services = client, services
        self._values = {key: raw(client, "DUMP", key) for key in lasting_keys(client)}

    def promote(self) -> None:
        """Fail over to it."""
        for key in raw(self._client, "KEYS", "*"):
            raw(self._client, "DEL", key)
        for key, value in self._values.items():
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
    assert restored.divergent == (result.object_name,)


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
    assert (restored.outcome, restored.messages, restored.divergent) == (RestoreOutcome.RESTORED, 0, (later,))
    assert said(client) == texts(read_transcript(services, S)) == ["0", "1"]
    say(client, "3")
    assert said(client) == ["0", "1", "3"]
    sleep(services)
    assert sorted(texts(read_transcript(services, S))) == ["0", "1", "2", "3"]
    assert restore_session(services, S).divergent == ()
    assert sorted(said(client)) == ["0", "1", "2", "3"]
    assert said(client)[:3] == ["0", "1", "3"]
    sleep(services)
    restore_session(services, S)
    assert sorted(said(client)) == ["0", "1", "2", "3"]


def test_a_history_that_is_shorter_than_what_it_left_aside_does_not_cut_off_later_epochs(
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
    assert restore_session(services, S).divergent == (aside,)
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
