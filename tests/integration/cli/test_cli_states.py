"""Each command with each state of a session, and without its Redis or its archive: a line and an exit code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support.backups import Backup
from support.cli_sessions import chat, say, sleep
from support.command import Result, Torpor
from support.keyspace import raw
from support.ports import free_port
from support.sessions import purge_session, with_settings
from torpor.history.protocol import Lease
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.retention.legal_hold import hold_session
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow

# Each command that names a session or goes through all of them, such as s.
COMMANDS = [
    "archive s",
    "restore s",
    "show s",
    "export s",
    "export --all",
    "sessions",
    "sessions --conflicts",
    "status",
    "top --once",
    "quarantine",
    "requeue s",
    "requeue --all",
    "doctor",
    "doctor --repair",
    "hold --session s --reason why",
    "unhold --session s",
    "hold --owner ann --reason why",
    "unhold --owner ann",
    "assign-owner --match s --owner ann --yes",
    "separate s",
    "events",
    "purge-status",
    "purge-status none",
    "receipts",
    "bucket",
    "deployment",
    "deployment recover --dry-run",
    "sweep --once",
    "purge --session s --dry-run",
    "purge --owner ann --dry-run",
    "purge --idle-for 1s --dry-run",
    "purge --session s --yes",
]


def quarantined(client: redis.Redis, services: Services) -> None:
    say(client, "s", "hello", owner="ann")
    lease = services.sessions.claim_one("s", services.settings.lease)
    assert isinstance(lease, Lease)
    assert services.sessions.quarantine(lease, "it is broken")


def leased(client: redis.Redis, services: Services) -> None:
    say(client, "s", "hello", owner="ann")
    assert isinstance(services.sessions.claim_one("s", services.settings.lease), Lease)


def purged(client: redis.Redis, services: Services) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    purge_session(services, "s")


def held(client: redis.Redis, services: Services) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    hold_session(services, "s", "case 12")


def with_a_forgotten_hold(client: redis.Redis, services: Services) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    restore_session(services, "s")
    replica = Backup.of(client)
    hold_session(services, "s", "case 12")
    replica.restore(client)


def cleared_and_held(client: redis.Redis, services: Services) -> None:
    with_a_forgotten_hold(client, services)
    chat(client, "s", owner="ann").clear()


def with_a_forgotten_clear(client: redis.Redis, services: Services) -> None:
    """Its archive has a floor that Redis does not know of."""
    sleep(client, services, "s", "hello", owner="ann")
    restore_session(services, "s")
    say(client, "s", "more", owner="ann")
    replica = Backup.of(client)
    chat(client, "s", owner="ann").clear()
    archive_session(services, "s")
    replica.restore(client)
    say(client, "s", "still more", owner="ann")


def without_its_segment(client: redis.Redis, services: Services) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    restore_session(services, "s")
    say(client, "s", "more", owner="ann")
    for segment in contents.look(services.archive, "s").segments:
        services.archive.delete(segment.stored)


def without_metadata(client: redis.Redis, services: Services) -> None:
    say(client, "s", "hello", owner="ann")
    [key] = raw(client, "KEYS", "*:s:s")
    raw(client, "DEL", key)


def with_other_keys(client: redis.Redis, services: Services) -> None:
    say(client, "s", "hello", owner="ann")
    [key] = raw(client, "KEYS", "*:s:s")
    raw(client, "DEL", key)
    raw(client, "SET", key, "no hash")


def with_damaged_metadata(client: redis.Redis, services: Services) -> None:
    say(client, "s", "hello", owner="ann")
    [key] = raw(client, "KEYS", "*:s:s")
    raw(client, "HSET", key, "epoch", "yesterday")


def of_two_owners(client: redis.Redis, services: Services) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    say(client, "s", "hello", owner="bob")


STATES: dict[str, Callable[[redis.Redis, Services], object]] = {
    state.__name__.replace("_", " "): state
    for state in (
        quarantined,
        leased,
        purged,
        held,
        with_a_forgotten_hold,
        cleared_and_held,
        with_a_forgotten_clear,
        without_its_segment,
        without_metadata,
        with_other_keys,
        with_damaged_metadata,
        of_two_owners,
    )
}


def assert_clear(command: str, done: Result) -> None:
    """A known exit code, no traceback, and an error that says something."""
    assert done.code in range(5), (command, done)
    assert not re.search(r"Traceback|File \"", done.out + done.err), (command, done.out + done.err)
    assert done.code == 0 or done.said, (command, done)


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize("state", STATES)
def test_each_command_tells_in_a_line_what_is_wrong_with_a_session(
    client: redis.Redis, services: Services, torpor: Torpor, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    """Commands that change something come after those that look. Python prints warnings of the log as well."""
    STATES[state](client, with_settings(services, lease_seconds=1))
    before = Backup.of(client)
    for command in COMMANDS:
        assert_clear(command, torpor(*command.split()))
        assert 'File "' not in caplog.text, command
        before.restore(client)


def remove_archive(services: Services, scratch: Path) -> dict[str, str | None]:
    shutil.rmtree(scratch / "archive")
    return {}


def stop_redis(services: Services, scratch: Path) -> dict[str, str | None]:
    return {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}


MISSING = {"the archive": remove_archive, "Redis": stop_redis}


@pytest.mark.single_node(reason="the other Redis is one server")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize("missing", MISSING)
def test_each_command_tells_in_a_line_what_is_missing(
    client: redis.Redis, services: Services, torpor: Torpor, scratch: Path, missing: str
) -> None:
    sleep(client, services, "s", "hello", owner="ann")
    others = MISSING[missing](services, scratch)
    for command in COMMANDS:
        done = torpor(*command.split(), **others)
        assert_clear(command, done)
        if missing == "Redis":
            assert done.code == 4, (command, done)
