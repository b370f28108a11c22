"""Catching up: a Redis gets from an archive what it lacks, before anybody may use both together.

What stood in another Redis alone, or in a later state of this one, is rebuilt from the archive before anybody may
delete: the highest epochs, legal holds, from the objects that are held, and the tombstones of purges, from their
receipts. Then the sessions in Redis are reconciled with the archive. Orders of purges are in the archive, and go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from torpor.history.protocol import TransientError
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint, reach
from torpor.worker.ops import tombstones
from torpor.worker.ops.copies import Difference
from torpor.worker.ops.reconciling import Reconciled, ReconcileOutcome, reconcile
from torpor.worker.retention import hold_notes, legal_hold, lost_holds
from torpor.worker.retention.lost_holds import LostHold


@dataclass
class Survey:
    """What a Redis must know of an archive that it is to be used with.

    `lost` are the legal holds that Redis lacks, and `put_back` those that were put back before. Held objects of older
    versions do not tell whose the hold is: `unnoted` maps their sessions, if Redis has no hold of them, to their
    owners. `free` are owners with a session that is not held, so such a hold of their sessions is the sessions' own.
    `perhaps_released` are sessions that are under a hold in Redis, and whose objects tell of none. `unheld` are
    sessions whose objects lack the temporary hold that their legal hold asks for: copies of objects have none.
    `missing` is what a copy of an archive lacks, and `erased` what it has that was erased in the original since.
    `reconciled` maps the sessions of which Redis must change something,
    and those whose tombstones stand. `claims` counts the sessions that workers had claimed before the survey of a moved
    archive.
    """

    sessions: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    lost: list[LostHold] = field(default_factory=list)
    unnoted: dict[str, str | None] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    put_back: list[LostHold] = field(default_factory=list)
    perhaps_released: list[str] = field(default_factory=list)
    unheld: list[str] = field(default_factory=list)
    missing: Difference | None = None
    erased: Difference | None = None
    reconciled: dict[str, Reconciled] = field(default_factory=dict)
    claims: int = 0

    def add(self, reconciled: Iterable[Reconciled]) -> None:
        """Add what becomes of sessions; the first word about each counts."""
        for each in reconciled:
            self.reconciled.setdefault(each.session_id, each)

    @property
    def owners(self) -> list[str]:
        """The owners whose hold is put back, or was: their later sessions are held too."""
        return sorted({owner for each in [*self.holds, *self.put_back] for owner in each.owners})

    @property
    def own(self) -> list[str]:
        """The sessions whose own hold is put back, or was."""
        return sorted({each.session_id for each in [*self.holds, *self.put_back] if each.own})

    @property
    def holds(self) -> list[LostHold]:
        """The holds to put back."""
        return [*self.lost, *(self._guessed(*each) for each in self.unnoted.items())]

    def _guessed(self, session_id: str, owner: str | None) -> LostHold:
        if owner is None or owner in self.free:
            return LostHold(session_id, own=True, owners=frozenset())
        return LostHold(session_id, own=False, owners=frozenset({owner}))


def survey(services: Services, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Survey the archive, and what Redis has of it; `progress` gets the number of sessions so far. Changes nothing."""
    found = Survey()
    found.add(tombstones.rebuild(services, dry_run=True))
    for batch in catalog.stored_in_batches(services, progress):
        for session_id, objects in batch:
            shard = services.sessions.shard_of(session_id)
            found.epochs[shard] = max(found.epochs.get(shard, 0), *_epochs(session_id, objects))
        _note_holds(services, found, batch)
        found.add(reconcile(services, batch, dry_run=True))
        found.sessions += len(batch)
    return found


def survey_done(services: Services, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Survey the legal holds that were put back by a run before; `progress` as in `survey`."""
    found = Survey()
    for batch in catalog.stored_in_batches(services, progress):
        found.put_back += lost_holds.put_back_before(services, batch)
    return found


def catch_up(services: Services, surveyed: Survey, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Rebuild epochs, holds and tombstones, and reconcile the sessions; `progress` as in `survey`.

    Returns what was done. Repeatable; raises TransientError if a session is leased.
    """
    _rebuild(services, surveyed, progress)
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


def _rebuild(services: Services, surveyed: Survey, progress: Callable[[int], None]) -> None:
    services.sessions.note_epochs(surveyed.epochs)
    lost_holds.put_all_back(services, surveyed.holds)
    legal_hold.apply_holds(services, surveyed.unheld, lambda done: progress(done.sessions))


def _note_holds(services: Services, found: Survey, batch: Sequence[tuple[str, list[StoredObject]]]) -> None:
    lost = lost_holds.find(services, batch)
    found.lost += lost
    found.unheld += legal_hold.unheld(services, batch, {each.session_id for each in lost})
    found.put_back += lost_holds.put_back_before(services, batch)
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
