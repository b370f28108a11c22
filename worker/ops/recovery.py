"""Recovery: a Redis takes over an archive. The archive's Redis was lost, or this Redis is older than the archive.

What stood in the lost Redis alone is rebuilt from the archive before anybody may delete: the highest epochs, legal
holds, from the objects that are held, and the tombstones of purges, from their receipts. Then the sessions in Redis are
reconciled with the archive. Orders of purges are in the archive, and go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from torpor.history.protocol import TransientError
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import catalog, fence
from torpor.worker.deployment.identity import Comparison, State, compare_sides
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.ops import tombstones
from torpor.worker.ops.moves import renew_identity
from torpor.worker.ops.reconciling import Mending, Reconciled, reconcile
from torpor.worker.retention import hold_notes, lost_holds
from torpor.worker.retention.lost_holds import LostHold

_BATCH = 100


@dataclass
class Survey:
    """What a Redis must know of an archive that it takes over.

    `lost` are the legal holds that Redis has forgotten. Held objects of older versions do not tell whose the hold is:
    `unnoted` maps their sessions, if Redis has no hold of them, to their owners. `free` are owners with a session that
    is not held, so such a hold of their sessions is the sessions' own. `perhaps_released` are sessions that are under a
    hold in Redis, and whose objects are not held. `reconciled` maps the sessions of which Redis must change something.
    """

    sessions: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    lost: list[LostHold] = field(default_factory=list)
    unnoted: dict[str, str | None] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    perhaps_released: list[str] = field(default_factory=list)
    reconciled: dict[str, Reconciled] = field(default_factory=dict)

    def add(self, reconciled: Iterable[Reconciled]) -> None:
        """Add what becomes of sessions; the first word about each counts."""
        for each in reconciled:
            self.reconciled.setdefault(each.session_id, each)

    @property
    def owners(self) -> list[str]:
        """The owners to put under a legal hold, so that their later sessions are held too."""
        return sorted({owner for each in self.holds for owner in each.owners})

    @property
    def own(self) -> list[str]:
        """The sessions to put under a legal hold of their own."""
        return sorted(each.session_id for each in self.holds if each.own)

    @property
    def holds(self) -> list[LostHold]:
        """The holds to put back."""
        return [*self.lost, *(self._guessed(*each) for each in self.unnoted.items())]

    def _guessed(self, session_id: str, owner: str | None) -> LostHold:
        if owner is None or owner in self.free:
            return LostHold(session_id, True, frozenset())
        return LostHold(session_id, False, frozenset({owner}))


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
    """Survey the archive, and what Redis has of it; `progress` gets the number of sessions so far. Changes nothing."""
    found = Survey()
    found.add(tombstones.rebuild(services, repair=False))
    for batch in _batches(services, progress):
        for session_id, objects in batch:
            shard = services.sessions.shard_of(session_id)
            found.epochs[shard] = max(found.epochs.get(shard, 0), *_epochs(session_id, objects))
        _note_holds(services, found, batch)
        found.add(reconcile(services, batch, repair=False))
        found.sessions += len(batch)
    return found


def recover(
    services: Services,
    surveyed: Survey,
    give_up: str | None = None,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Rebuild epochs, holds and tombstones, reconcile the sessions, and then give both sides a new id.

    Returns what was done. Repeatable; raises DeploymentMismatch, and TransientError if a session is leased. The new id
    refuses the lost Redis, should it come back.
    """
    found = check_lost(services, give_up, force=force)
    if found.state is State.AGREE:
        return surveyed
    _rebuild(services, surveyed)
    reach(Failpoint.DEPLOYMENT_REBUILT)
    done = replace(surveyed, reconciled={})
    done.add(tombstones.rebuild(services, repair=True))
    for batch in _batches(services, progress):
        done.add(reconcile(services, batch, repair=True))
    busy = [each.session_id for each in done.reconciled.values() if each.mending is Mending.BUSY]
    if busy:
        raise TransientError(
            f"{len(busy):,} sessions are leased by workers or are being woken, such as {busy[0]!r}: stop the workers, "
            f"wait for {services.settings.lease}, and recover again; what is done stays done"
        )
    renew_identity(services, found)
    return done


def _rebuild(services: Services, surveyed: Survey) -> None:
    services.sessions.note_epochs(surveyed.epochs)
    lost_holds.put_back(services, surveyed.holds)


def _batches(services: Services, progress: Callable[[int], None]) -> Iterator[Sequence[tuple[str, list[StoredObject]]]]:
    """The sessions in the archive with their objects, some at a time."""
    walk, done = catalog.stored_sessions(services), 0
    while batch := list(islice(walk, _BATCH)):
        yield batch
        done += len(batch)
        progress(done)


def _note_holds(services: Services, found: Survey, batch: Sequence[tuple[str, list[StoredObject]]]) -> None:
    found.lost += lost_holds.find(services, batch)
    owners = {session_id: _owner(objects) for session_id, objects in batch}
    known = services.sessions.find_holds([(each, [owner] if owner else []) for each, owner in owners.items()])
    for (session_id, objects), hold in zip(batch, known, strict=True):
        owner = owners[session_id]
        if any(map(hold_notes.notes_of, objects)):
            continue
        if not any(stored.held for stored in objects):
            found.free.update([owner] if owner is not None else [])
            found.perhaps_released += [session_id] if hold else []
        elif hold is None:
            found.unnoted[session_id] = owner


def _owner(objects: Sequence[StoredObject]) -> str | None:
    return next((owner for stored in reversed(objects) if (owner := stored.metadata.get("owner"))), None)


def _epochs(session_id: str, objects: Sequence[StoredObject]) -> Iterator[int]:
    yield from (name.epoch for stored in objects if (name := names.parse(session_id, stored.name)))
