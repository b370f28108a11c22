"""Recovery: a Redis takes over an archive. The archive's Redis was lost, or this Redis is older than the archive.

What stood in the lost Redis alone is rebuilt from the archive before anybody may delete: the highest epochs, legal
holds, from the objects that are held, and the tombstones of purges, from their receipts. Then the sessions in Redis are
reconciled with the archive. Orders of purges are in the archive, and go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from torpor.history.protocol import ANY_OWNER, HoldKind, TransientError
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
from torpor.worker.retention import legal_hold

REASON = "found on objects of the archive when Redis was recovered"
_BATCH = 100


@dataclass
class Survey:
    """What a Redis must know of an archive that it takes over.

    `held` maps each session with held objects, whose hold Redis lacks, to its owner, and `kinds` to whose hold that is.
    Objects of older versions do not tell that: `free` are owners with a session that is not held, so such a hold of
    their sessions is the sessions' own. `perhaps_released` are sessions that are under a hold in Redis,
    and whose objects are not held. `reconciled` maps the sessions of which Redis must change something.
    """

    sessions: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    held: dict[str, str | None] = field(default_factory=dict)
    kinds: dict[str, frozenset[HoldKind]] = field(default_factory=dict)
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
        return sorted({owner for session, owner in self.held.items() if owner and self._is(session, HoldKind.OWNER)})

    @property
    def own(self) -> list[str]:
        """The sessions to put under a legal hold of their own."""
        return sorted(session for session in self.held if self._is(session, HoldKind.SESSION))

    def _is(self, session_id: str, kind: HoldKind) -> bool:
        """True if a session is under a hold of this kind."""
        kinds, owner = self.kinds[session_id], self.held[session_id]
        if kinds and (owner or HoldKind.SESSION in kinds):
            return kind in kinds
        return kind is (HoldKind.SESSION if owner is None or owner in self.free else HoldKind.OWNER)


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
    for owner in surveyed.owners:
        services.sessions.hold_owner(owner, REASON)
    for session_id in surveyed.own:
        services.sessions.hold(session_id, REASON, owner=ANY_OWNER)
    services.sessions.note_owner_holds(sorted(surveyed.held.keys() - set(surveyed.own)))


def _batches(services: Services, progress: Callable[[int], None]) -> Iterator[Sequence[tuple[str, list[StoredObject]]]]:
    """The sessions in the archive with their objects, some at a time."""
    walk, done = catalog.stored_sessions(services), 0
    while batch := list(islice(walk, _BATCH)):
        yield batch
        done += len(batch)
        progress(done)


def _note_holds(services: Services, found: Survey, batch: Sequence[tuple[str, list[StoredObject]]]) -> None:
    stored = dict(batch)
    owners = {session_id: _owner(objects) for session_id, objects in batch}
    held = [session_id for session_id, objects in batch if any(stored.held for stored in objects)]
    found.free.update(owner for session_id, owner in owners.items() if owner is not None and session_id not in held)
    known = services.sessions.hold_kinds([(each, [owner] if owner else []) for each, owner in owners.items()])
    kinds = dict(zip(owners, map(_parts, known), strict=True))
    for each in held:
        noted = frozenset(chain.from_iterable(map(_parts, legal_hold.noted_kinds(stored[each]))))
        if (noted - kinds[each]) if noted else not kinds[each]:
            found.held[each], found.kinds[each] = owners[each], noted - kinds[each]
    found.perhaps_released += [each for each, kind in kinds.items() if kind and each not in held]


def _parts(kind: HoldKind | None) -> frozenset[HoldKind]:
    """The holds that a kind stands for, SESSION and OWNER."""
    if kind is HoldKind.BOTH:
        return frozenset({HoldKind.SESSION, HoldKind.OWNER})
    return frozenset([kind] if kind else [])


def _owner(objects: Sequence[StoredObject]) -> str | None:
    return next((owner for stored in reversed(objects) if (owner := stored.metadata.get("owner"))), None)


def _epochs(session_id: str, objects: Sequence[StoredObject]) -> Iterator[int]:
    yield from (name.epoch for stored in objects if (name := names.parse(session_id, stored.name)))
