"""Recovery: a Redis takes over an archive whose Redis was lost.

What stood in the lost Redis alone is rebuilt from the archive before anybody may delete: legal holds, from the objects
that are held, and the highest epochs. Orders of purges are in the archive, and go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from torpor.history.protocol import ANY_OWNER
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import catalog, fence
from torpor.worker.deployment.identity import Comparison, State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.ops.moves import renew_identity

REASON = "found on objects of the archive when Redis was recovered"
_BATCH = 100


@dataclass
class Survey:
    """What a Redis must know of an archive that it takes over.

    `held` maps each session with a held object, and no hold in Redis, to its owner. `free` are owners with a session
    that is not held, so a hold is their sessions' own.
    """

    sessions: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    held: dict[str, str | None] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)

    @property
    def owners(self) -> list[str]:
        """The owners to put under a legal hold: each of their sessions is held, and a later one must be too."""
        return sorted({owner for owner in self.held.values() if owner is not None} - self.free)

    @property
    def own(self) -> list[str]:
        """The sessions to put under a legal hold of their own."""
        return sorted(session for session, owner in self.held.items() if owner is None or owner in self.free)


def check_lost(services: Services, give_up: str | None = None, *, force: bool = False) -> Comparison:
    """Both sides, if Redis may take the archive over or nothing has changed.

    Raises DeploymentMismatch if Redis belongs to another deployment, unless it is to `give_up` that id, and if another
    Redis uses the archive, unless `force` is given.
    """
    found = compare_sides(services.sessions, services.archive)
    redis, there = found.redis, found.archive
    same = redis.deployment is not None and redis.deployment == there.deployment
    moved = same and redis.archive not in (None, there.url)
    if found.state is State.DISAGREE and (moved or there.namespace not in (None, found.namespace)):
        found.check()
    if found.state is State.NEW:
        raise DeploymentMismatch(f"{found.sides()}: there is nothing to recover. Start a worker: torpor worker")
    # The archive of a fork has the original's id among its former ones, and the original its own archive.
    former = there.former if redis.archive == there.url else ()
    if redis.archive is not None and redis.deployment not in (there.deployment, *former, give_up):
        raise DeploymentMismatch(
            f"{found.sides()}. If this Redis is to give up the archive {redis.archive}: "
            f"torpor deployment recover --give-up {redis.deployment}"
        )
    if not force:
        fence.check_unused(found)
    services.archive.check()
    return found


def survey(services: Services, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Survey the archive; `progress` gets the number of sessions so far."""
    found = Survey()
    walk = catalog.stored_sessions(services)
    while batch := list(islice(walk, _BATCH)):
        for session_id, objects in batch:
            shard = services.sessions.shard_of(session_id)
            found.epochs[shard] = max(found.epochs.get(shard, 0), *_epochs(session_id, objects))
        _note_holds(services, found, batch)
        found.sessions += len(batch)
        progress(found.sessions)
    return found


def recover(services: Services, surveyed: Survey, give_up: str | None = None, *, force: bool = False) -> None:
    """Rebuild legal holds and epochs, then give both sides a new id. Repeatable; raises DeploymentMismatch.

    The new id refuses the lost Redis, should it come back.
    """
    found = check_lost(services, give_up, force=force)
    if found.state is State.AGREE:
        return
    services.sessions.note_epochs(surveyed.epochs)
    for owner in surveyed.owners:
        services.sessions.hold_owner(owner, REASON)
    for session_id in surveyed.own:
        services.sessions.hold(session_id, REASON, owner=ANY_OWNER)
    services.sessions.note_owner_holds(sorted(surveyed.held.keys() - set(surveyed.own)))
    reach(Failpoint.DEPLOYMENT_REBUILT)
    renew_identity(services, found)


def _note_holds(services: Services, found: Survey, batch: Sequence[tuple[str, list[StoredObject]]]) -> None:
    owners = {session_id: _owner(objects) for session_id, objects in batch}
    held = [session_id for session_id, objects in batch if any(stored.held for stored in objects)]
    found.free.update(owner for session_id, owner in owners.items() if owner is not None and session_id not in held)
    known = services.sessions.find_holds([(each, [owner] if (owner := owners[each]) else []) for each in held])
    found.held.update({each: owners[each] for each, hold in zip(held, known, strict=True) if hold is None})


def _owner(objects: Sequence[StoredObject]) -> str | None:
    return next((owner for stored in reversed(objects) if (owner := stored.metadata.get("owner"))), None)


def _epochs(session_id: str, objects: Sequence[StoredObject]) -> Iterator[int]:
    yield from (name.epoch for stored in objects if (name := names.parse(session_id, stored.name)))
