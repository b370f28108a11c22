"""Redis and the archive belong to one deployment, or nothing is done: every pair of sides, through every door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support.command import Result, Torpor, names_of_commands
from support.two_sides import PAIRS, Sides, contents_of, set_up, without_trail
from torpor import MemorystoreChatMessageHistory, SessionArchive
from torpor.worker.deployment import identity
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.identity import State
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import load_settings
from torpor.worker.errors import ArchiveMisconfigured, DeploymentMismatch
from torpor.worker.sleep.opening import OpenDeployment

# The first use may be one of these.
MAKING = ["archive none", "sweep --once", "import {file}", "adopt --match zz* --format memorystore"]
BEFORE_MAKING = ["sweep --dry-run", "import {file} --dry-run", "adopt --match zz* --format memorystore --dry-run"]
# These rely on the archive being the right one, and so on a first use that was before them.
RELYING = [
    "purge --session none --yes",
    "purge --owner nobody --yes",
    "purge --idle-for 1s --yes",
    "purge --resume none",
    "jobs --resume none",
    "compress --here",
    "compress --dry-run",
    "hold --session none --reason why",
    "hold --owner nobody --reason why",
    "unhold --session none",
    "restore none",
    "separate none",
    "assign-owner --match zz* --owner ann --yes",
    "purge --session none --dry-run",
    "purge --owner nobody --dry-run",
    "purge --idle-for 1s --dry-run --json",
    "assign-owner --match zz* --owner ann --dry-run",
]
LOOKING = [
    "show none",
    "export --all",
    "doctor",
    "bucket",
    "purge-status",
    "receipts",
    "audit",
    "jobs",
]
# These look, and say so in the audit trail.
AUDITED = {"show none", "export --all"}
# These ask Redis alone, and so work while the archive is down.
OF_REDIS = ["sessions", "events", "quarantine", "holds", "requeue --all", "status --no-archive", "top --once"]
# This tells of sides that do not belong together, too.
TELLING = ["status"]
# Not doors: the identity itself, a deployment of its own, processes that the tests below start, one that counts, and
# two that open neither side.
APART = {"deployment", "demo", "worker", "beat", "serve-metrics", "console", "sql", "scripts"}


@pytest.fixture
def services(unused: Services) -> Services:
    """Sides that each test sets up."""
    return unused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "conversations.jsonl"
    path.write_text("")
    return path


def test_every_command_is_one_of_these_doors() -> None:
    doors = {door.split()[0] for door in (*MAKING, *RELYING, *LOOKING, *OF_REDIS, *TELLING)}
    assert doors | APART == names_of_commands()


def is_refused(sides: Sides, door: str) -> bool:
    if door in OF_REDIS:
        return sides.knows_another_archive
    if sides.expected is State.AGREE:
        return False
    if sides.expected is State.DISAGREE or door in RELYING:
        return True
    return door in LOOKING and sides.is_missing


def names_both(said: Result, sides: Sides) -> bool:
    archive = sides.services.archive.url
    port_and_database = sides.services.sessions.identity().redis.partition(":")[2]  # a host has several names
    missing = f"{archive} does not exist" in said.said
    return missing or "another namespace than" in said.said or (port_and_database in said.said and archive in said.said)


@pytest.mark.parametrize(("at_redis", "at_archive"), PAIRS)
def test_each_door_lets_in_who_belongs_together_and_refuses_the_others_with_nothing_changed(
    services: Services, torpor: Torpor, file: Path, at_redis: str, at_archive: str
) -> None:
    sides = set_up(services, at_redis, at_archive)
    for door in (*LOOKING, *TELLING, *BEFORE_MAKING, *OF_REDIS, *RELYING):
        before = contents_of(services.sessions, services.archive)
        done = torpor(*door.format(file=file).split())
        assert (done.code == 2) == is_refused(sides, door), (door, done)
        assert done.code != 2 or names_both(done, sides), (door, done)
        assert door not in TELLING or "live in Redis" in done.out, done
        if done.code == 2 and at_redis == at_archive == "of an older version":
            assert "An older version made this deployment" in done.said, (door, done)
        after = contents_of(services.sessions, services.archive)
        if done.code != 2 and door in AUDITED:
            after = without_trail(after)
            before = without_trail(before)
        if done.code == 2 or door in (*LOOKING, *TELLING, *BEFORE_MAKING):
            assert after == before, door


MAKERS: dict[str, Callable[[Torpor, Services, str], object]] = {
    "archive": lambda torpor, _, __: torpor("archive", "none").code == 3,
    "import": lambda torpor, _, file: torpor("import", file).code == 0,
    "sweep": lambda torpor, _, __: torpor("sweep", "--once").code == 0,
    "adopt": lambda torpor, _, __: torpor("adopt", "--match", "zz*", "--format", "memorystore").code == 0,
    "worker": lambda _, services, __: identity.make(services.sessions, services.archive),
    "task": lambda _, __, ___: OpenDeployment(load_settings()).services(),
}


@pytest.fixture
def environment(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings, for a worker's tasks."""
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_first_use_makes_both_sides_one_deployment_or_changes_nothing(
    services: Services, torpor: Torpor, file: Path, maker: str, pair: tuple[str, str]
) -> None:
    sides = set_up(services, *pair)
    before = contents_of(services.sessions, services.archive)
    try:
        done = bool(MAKERS[maker](torpor, services, str(file)))
    except (DeploymentMismatch, ArchiveMisconfigured):
        done = False
    assert done == (sides.expected is not State.DISAGREE)
    if done:
        found = identity.compare_sides(services.sessions, services.archive)
        assert (found.state, found.archive.namespace, len(found.archive.former)) == (State.AGREE, "torpor", 0)
        assert torpor("restore", "none").code == 3
    else:
        assert contents_of(services.sessions, services.archive) == before


@pytest.mark.parametrize(("at_redis", "at_archive"), PAIRS)
def test_a_wake_is_refused_where_a_worker_is(
    client: redis.Redis, services: Services, at_redis: str, at_archive: str
) -> None:
    sides = set_up(services, at_redis, at_archive)
    before = contents_of(services.sessions, services.archive)
    chat = MemorystoreChatMessageHistory(client, "none", archive=SessionArchive(services.archive.url))
    if sides.expected is State.DISAGREE:
        with pytest.raises((DeploymentMismatch, ArchiveMisconfigured)):
            assert chat.messages
        assert contents_of(services.sessions, services.archive) == before
    else:
        assert chat.messages == []
        assert contents_of(services.sessions, services.archive)[1:] == before[1:]
