"""Moves: the archive of a deployment is at another place, such as in another bucket."""

from __future__ import annotations

from collections.abc import Callable

from torpor.history.protocol import Identity, TransientError
from torpor.worker.deployment import catalog, fence
from torpor.worker.deployment.identity import Comparison, State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.ops import copies
from torpor.worker.ops.catching_up import Survey
from torpor.worker.ops.renewal import take_identity
from torpor.worker.retention import legal_hold


def check_moved(services: Services, *, force: bool = False) -> Comparison:
    """Both sides, if the archive has moved or nothing has changed.

    Raises DeploymentMismatch, also if another Redis uses the archive or it is an old copy; with `force` that does not
    count.
    """
    found = compare_sides(services.sessions, services.archive)
    if found.redis.deployment is None or found.redis.deployment != found.archive.deployment:
        found.check()
        raise DeploymentMismatch(f"{found.sides()} So no archive of theirs has moved.")
    if found.archive.namespace != found.namespace or found.redis.archive in (None, found.archive.url):
        found.check()
    elif not force:
        fence.check_unused(found)
        fence.check_copy(found)
    return found


def survey(services: Services, progress: Callable[[int], None] = lambda _: None, *, force: bool = False) -> Survey:
    """Survey a moved archive: how it differs from the original, and which legal holds it lacks. Changes nothing.

    Raises TransientError while workers archive sessions, and DeploymentMismatch if something is missing, or was erased
    in the original since; with `force` that does not count.
    """
    claims = _claims(services)
    _check_idle(services)
    redis = services.sessions.identity()
    missing, erased = copies.compare(services, redis.archive, progress)
    if missing and not force:
        raise DeploymentMismatch(
            f"The copy {services.archive.url} lacks {missing}. Copy the archive again. If the original is gone: --force"
        )
    if erased and not force:
        raise DeploymentMismatch(
            f"The copy {services.archive.url} still has what was erased since: {erased}. Copy the archive again, and "
            "let the tool delete what the original has not"
        )
    found = Survey(missing=missing, erased=erased, claims=claims)
    for batch in catalog.stored_in_batches(services, progress):
        found.unheld += legal_hold.unheld(services, batch)
    return found


def move_archive(
    services: Services,
    surveyed: Survey,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Record the URL of an archive that has moved; returns what was done. Repeatable.

    Raises DeploymentMismatch, and TransientError if workers have claimed sessions since the survey: what they upload
    goes to the original, and the survey has not seen it. Workers that claim later see the new URL and give back.

    The archive gets its token of the fence first. Its own one is as old as the copy. Then the objects of sessions under
    a legal hold get their temporary holds.
    """
    found = check_moved(services, force=force)
    if found.state is State.AGREE:
        return surveyed
    fence.claim(services.sessions, services.archive)
    reach(Failpoint.DEPLOYMENT_FENCED)
    legal_hold.apply_holds(services, surveyed.unheld, lambda done: progress(done.sessions))
    _check_unclaimed(services, surveyed)
    take_identity(services)
    try:
        _check_unclaimed(services, surveyed)
    except TransientError:
        _put_back(services, found.redis)
        raise
    return surveyed


def _check_idle(services: Services) -> None:
    in_work = sum(shard.in_work for shard in services.sessions.overview())
    if in_work:
        raise TransientError(
            f"{in_work:,} sessions are leased by workers, which use the original archive. {_stop(services)}"
        )


def _check_unclaimed(services: Services, surveyed: Survey) -> None:
    if _claims(services) != surveyed.claims:
        raise TransientError(
            "Workers have claimed sessions since the copy was compared with the original archive, which they use. "
            f"{_stop(services)}"
        )


def _claims(services: Services) -> int:
    """How many sessions were ever claimed."""
    return services.sessions.figures().counts["claims"]


def _put_back(services: Services, before: Identity) -> None:
    if before.deployment is not None:
        services.sessions.identify(services.sessions.identity(), before.deployment, before.archive)


def _stop(services: Services) -> str:
    return f"Stop the workers, wait for {services.settings.lease}, and try again"
