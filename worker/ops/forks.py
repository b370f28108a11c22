"""Forks: copies of a Redis and of its archive, such as for staging, become a deployment of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from torpor.worker.archive import ownership
from torpor.worker.archive.stores.url import parse_archive_url
from torpor.worker.deployment import fence
from torpor.worker.deployment.identity import Comparison, State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.monitoring import presence
from torpor.worker.ops import catching_up, copies
from torpor.worker.ops.catching_up import Survey, catch_up
from torpor.worker.ops.renewal import renew_identity

# Whoever was seen by a Redis this long ago is at work on it, or was a moment ago.
_AT_WORK = timedelta(minutes=5)


def check_copies(services: Services, *, force: bool = False) -> Comparison:
    """Both sides, if they are copies of a deployment whose archive is elsewhere, or were forked already.

    Raises DeploymentMismatch. Another Redis that uses the archive is refused too, and so is a Redis that seems to be
    the original, unless `force` is given.
    """
    found = compare_sides(services.sessions, services.archive)
    if found.state is State.AGREE and found.archive.forked:
        return found
    if found.redis.archive is None or found.redis.deployment not in (found.archive.deployment, *found.archive.former):
        found.check()
        raise DeploymentMismatch(f"{found.sides()} So they are no copies of one deployment.")
    if found.archive.namespace != found.namespace:
        found.check()
    if _is_same(found.redis.archive, found.archive.url):
        raise DeploymentMismatch(f"{found.sides()} This is the original archive. Copy it, and give the copy's URL.")
    if not force:
        fence.check_unused(found)
        _check_copied(services, found)
    return found


def _check_copied(services: Services, found: Comparison) -> None:
    """Raise DeploymentMismatch if this Redis seems to be the original: a fork would part it from its archive."""
    ago = presence.last_seen(services)
    if ago is not None and ago < _AT_WORK:
        why = f"Workers were at work on this Redis {ago.total_seconds():.0f} seconds ago"
    elif _uses_original(services, found):
        why = f"This Redis was the last one that moved the fence of {found.redis.archive}"
    else:
        return
    raise DeploymentMismatch(
        f"{found.sides()} {why}, so it may be the original. Give the copy's URL, TORPOR_REDIS_URL. "
        f"If it is the copy, wait until it is {_AT_WORK.total_seconds() / 60:.0f} minutes old; "
        "if the original is not at work any more: --force"
    )


def _uses_original(services: Services, found: Comparison) -> bool:
    """True if the original archive can be read, and its token of the fence is this Redis's."""
    original = copies.readable(services, found.redis.archive) if found.redis.archive else None
    token = ownership.read(original).fence if original else None
    return token is not None and found.redis.has_token(token.token)


def survey(services: Services, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """As `catching_up.survey`, and what the copy of the archive lacks because it is older than that of Redis."""
    found = catching_up.survey(services, progress)
    found.missing = copies.missing(services, progress, apart_from=found.reconciled)
    return found


def fork(
    services: Services,
    surveyed: Survey,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Let the copy of Redis catch up with that of the archive, and then give both an id of their own.

    Returns what was done. The copies are of different moments: Redis lacks what was archived in between. The original
    is not touched. Repeatable; raises DeploymentMismatch, and TransientError if a session is leased.
    """
    found = check_copies(services, force=force)
    if found.state is State.AGREE:
        return surveyed
    done = catch_up(services, surveyed, progress)
    renew_identity(services, found, forked=True)
    return done


def _is_same(recorded: str, given: str) -> bool:
    """True if two URLs name the same archive, a folder perhaps by a symbolic link."""
    places = parse_archive_url(recorded), parse_archive_url(given)
    folders = [place for place in places if isinstance(place, Path)]
    return places[0] == places[1] or (len(folders) == 2 and folders[0].resolve() == folders[1].resolve())
