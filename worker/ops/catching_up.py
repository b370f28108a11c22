"""Catching up: a Redis gets from an archive what it lacks, before anybody may use both together.

What stood in another Redis alone, or in a later state of this one, is rebuilt from the archive before anybody may
delete: the highest epochs, legal holds, from the objects that are held, and the tombstones of purges, from their
receipts. Then the sessions in Redis are reconciled with the archive. Orders of purges are in the archive, and go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from torpor.history.protocol import ANY_OWNER, HoldKind, TransientError
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.ops import tombstones
from torpor.worker.ops.copies import Missing
from torpor.worker.ops.reconciling import Reconciled, ReconcileOutcome, reconcile
from torpor.worker.retention import legal_hold

REASON = "found on objects of the archive when Redis caught up with it"


@dataclass
class Survey:
    """What a Redis must know of an archive that it is to be used with.

    `held` maps each session with held objects, whose hold Redis lacks, to its owner, and `kinds` to whose hold that is.
    Objects of older versions do not tell that: `free` are owners with a session that is not held, so such a hold of
    their sessions is the sessions' own. `perhaps_released` are sessions that are under a hold in Redis,
    and whose objects tell of none. `unheld` are sessions whose objects lack the temporary hold that their legal hold
    asks for: copies of objects have none. `missing` is what a copy of an archive lacks. `reconciled` maps the sessions
    of which Redis must change something.
    """

    sessions: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    held: dict[str, str | None] = field(default_factory=dict)
    kinds: dict[str, frozenset[HoldKind]] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    perhaps_released: list[str] = field(default_factory=list)
    unheld: list[str] = field(default_factory=list)
    missing: Missing | None = None
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


def survey(services: Services, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Survey the archive, and what Redis has of it; `progress` gets the number of sessions so far. Changes nothing."""
    found = Survey()
    found.add(tombstones.rebuild(services, dry_run=True))
    for batch in catalog.stored_in_batches(services, progress):
        for session_id, objects in batch:
            shard = services.sessions.shard_of(session_id)
            found.epochs[shard] = max(found.epochs.get(shard, 0), *_epochs(session_id, objects))
        _note_holds(services, found, batch)
        found.unheld += legal_hold.unheld(services, batch)
        found.add(reconcile(services, batch, dry_run=True))
        found.sessions += len(batch)
    return found


def catch_up(services: Services, surveyed: Survey, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Rebuild epochs, holds and tombstones, and reconcile the sessions; `progress` as in `survey`.

    Returns what was done. Repeatable; raises TransientError if a session is leased.
    """
    _rebuild(services, surveyed)
    reach(Failpoint.DEPLOYMENT_REBUILT)
    done = replace(surveyed, reconciled={})
    done.add(tombstones.rebuild(services, dry_run=False))
    for batch in catalog.stored_in_batches(services, progress):
        done.add(reconcile(services, batch, dry_run=False))
    busy = [each.session_id for each in done.reconciled.values() if each.outcome is ReconcileOutcome.BUSY]
    if busy:
        raise TransientError(
            f"{len(busy):,} sessions are leased by workers or are being woken, such as {busy[0]!r}. Stop the workers, "
            f"wait for {services.settings.lease}, and try again. What is done stays done"
        )
    return done


def _rebuild(services: Services, surveyed: Survey) -> None:
    services.sessions.note_epochs(surveyed.epochs)
    for owner in surveyed.owners:
        services.sessions.hold_owner(owner, REASON)
    for session_id in surveyed.own:
        services.sessions.hold(session_id, REASON, owner=ANY_OWNER)
    services.sessions.note_owner_holds(sorted(surveyed.held.keys() - set(surveyed.own)))
    legal_hold.apply_holds(services, surveyed.unheld)


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
