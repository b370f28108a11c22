"""Owner markers under kills."""

from __future__ import annotations

import pytest
import redis

from support.rewinding import S, at, chat, described, end_lease, killed_at, object_names, say, sleep
from support.sessions import purge_session, with_settings
from support.waiting import wait_until
from torpor.worker.archive import names, ownership
from torpor.worker.archive.names import FloorName
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.purge import carry_out
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

# Owners


def test_an_owner_who_comes_after_the_first_archive_gets_a_marker_with_the_next(
    client: redis.Redis, services: Services
) -> None:
    say(client, "0")
    sleep(services)
    restore_session(services, S)
    say(client, "1", owner="ann", assign_owner=True)
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
    say(client, "1", owner="ann")
    sleep(services)
    assert len(markers(services)) == 2


def markers(services: Services) -> list[str]:
    return [stored.name for stored in services.archive.list(names.owner_markers("ann", S))]


def assert_erased(services: Services) -> None:
    """Only floor markers and the archive's ownership are left."""
    assert services.sessions.info(S) is None
    ours = (names.DEPLOYMENT, names.IDENTITIES, names.PURGES.orders, names.PURGES.work)
    left = [name for name in object_names(services.archive) if not name.startswith(ours)]
    assert {type(names.parse(S, name)) for name in left} <= {FloorName}


CLEAN = [(point, 1) for point in Failpoint if point.startswith("erase.")]
CLEAN.append((Failpoint.ERASE_DELETED, 2))  # the last segment, and with it the last metadata that names the owner
PURGE: list[tuple[Failpoint, int]] = [
    (point, 1) for point in Failpoint if point.startswith("purge.") and point is not Failpoint.PURGE_TRIMMED
]
PURGE += [case for case in CLEAN if case[0] not in (Failpoint.ERASE_DONE, Failpoint.ERASE_NOTED)]


@pytest.mark.parametrize("awake", [False, True], ids=["asleep", "awake"])
@pytest.mark.parametrize(("failpoint", "times"), CLEAN)
def test_a_clear_whose_worker_is_killed_erases_all_markers_and_segments_in_the_end(
    client: redis.Redis, services: Services, failpoint: Failpoint, times: int, *, awake: bool
) -> None:
    prepare_owned(client, services)
    if awake:
        restore_session(services, S)
    chat(client, owner="ann").clear()
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
