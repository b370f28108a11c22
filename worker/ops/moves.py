"""Changes of a deployment's identity: its archive has moved, or Redis and the archive are copies of another one's."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from torpor.history.protocol import TransientError
from torpor.worker.archive import ownership
from torpor.worker.archive.stores.url import parse_archive_url
from torpor.worker.deployment import fence
from torpor.worker.deployment.identity import Comparison, State, compare_sides, new_id
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveConflict, DeploymentMismatch
from torpor.worker.failpoints import Failpoint, reach

_TRIES = 5


def check_moved(services: Services, *, force: bool = False) -> Comparison:
    """Both sides, if the archive has moved or nothing has changed.

    Raises DeploymentMismatch, also if another Redis uses the archive; with `force` that does not count.
    """
    found = compare_sides(services.sessions, services.archive)
    if found.redis.deployment is None or found.redis.deployment != found.archive.deployment:
        found.check()
        raise DeploymentMismatch(f"{found.sides()}: no archive of theirs has moved")
    if found.archive.namespace != found.namespace or found.redis.archive in (None, found.archive.url):
        found.check()
    if not force:
        fence.check_unused(found)
    return found


def move_archive(services: Services, *, force: bool = False) -> None:
    """Record the URL of an archive that has moved. Repeatable; raises DeploymentMismatch.

    The archive gets its token of the fence first. Its own one is as old as the copy.
    """
    if check_moved(services, force=force).state is State.AGREE:
        return
    fence.claim(services.sessions, services.archive)
    reach(Failpoint.DEPLOYMENT_FENCED)
    take_identity(services)


def check_copies(services: Services, *, force: bool = False) -> Comparison:
    """Both sides, if they are copies of a deployment whose archive is elsewhere, or were forked already.

    Raises DeploymentMismatch. Another Redis that uses the archive is refused too, unless `force` is given.
    """
    found = compare_sides(services.sessions, services.archive)
    if found.state is State.AGREE and found.archive.forked:
        return found
    if found.redis.archive is None or found.redis.deployment not in (found.archive.deployment, *found.archive.former):
        found.check()
        raise DeploymentMismatch(f"{found.sides()}: they are no copies of one deployment")
    if found.archive.namespace != found.namespace:
        found.check()
    if _is_same(found.redis.archive, found.archive.url):
        raise DeploymentMismatch(f"{found.sides()}. This is the original archive: copy it, and give the copy's URL")
    if not force:
        fence.check_unused(found)
    return found


def fork(services: Services, *, force: bool = False) -> None:
    """Give copies an id of their own. The original is not touched. Repeatable; raises DeploymentMismatch."""
    found = check_copies(services, force=force)
    if found.state is State.AGREE:
        return
    renew_identity(services, found, forked=True)


def renew_identity(services: Services, found: Comparison, *, forked: bool = False) -> None:
    """Give the archive a new id, and then Redis: whoever has only the former one is refused from now on."""
    with suppress(ArchiveConflict):  # somebody else gave it one at the same time
        ownership.write(services.archive, found.archive, found.namespace, new_id(), forked=forked)
    reach(Failpoint.DEPLOYMENT_WRITTEN)
    take_identity(services)


def take_identity(services: Services) -> None:
    """Give Redis the id of the archive, and its URL."""
    for _ in range(_TRIES):
        found = compare_sides(services.sessions, services.archive)
        if found.state is State.AGREE:
            return
        if found.archive.deployment is not None:
            services.sessions.identify(found.redis, found.archive.deployment, found.archive.url)
    raise TransientError("somebody else changes the identity of the deployment at the same time; try again")


def _is_same(recorded: str, given: str) -> bool:
    """True if two URLs name the same archive, a folder perhaps by a symbolic link."""
    places = parse_archive_url(recorded), parse_archive_url(given)
    folders = [place for place in places if isinstance(place, Path)]
    return places[0] == places[1] or (len(folders) == 2 and folders[0].resolve() == folders[1].resolve())
