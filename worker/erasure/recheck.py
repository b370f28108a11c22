"""Recheck: removes what is left of the listed sessions, and notes which objects may not be removed.

It leaves alone what came after the purge: a session that was begun anew has newer epochs than the listed one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from torpor.history.protocol import PurgeOutcome, Status
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.erasure import erase
from torpor.worker.erasure.inventory import Found, Tally
from torpor.worker.erasure.order import Scope
from torpor.worker.erasure.receipt import Kept, Remainder
from torpor.worker.erasure.removal import Removal
from torpor.worker.erasure.survey import Surveyed
from torpor.worker.errors import ArchiveRefused

_UNPROVEN = "it could not be read in Redis when it was listed, and can be now, or was archived: order the purge again"


@dataclass
class Recheck:
    """One look at all listed sessions.

    `kept` may not be removed. `spared` is what was listed and is not removed. `back` counts what was there again and
    is removed now. Another recheck has to wait until `waits_until`, by Redis's clock.
    """

    removal: Removal
    kept: Remainder = field(default_factory=Remainder)
    spared: Tally = field(default_factory=Tally)
    back: int = 0
    waits_until: datetime | None = None

    def look_at(self, founds: Sequence[Found]) -> None:
        """Look at listed sessions, and remove what is left of them."""
        surveyed = self.removal.survey(found.session for found in founds)
        left = [_Left(found, each) for found, each in zip(founds, surveyed, strict=True)]
        if self.removal.order.scope is Scope.LIVE:
            self._drop([each for each in left if each.live])
            return
        for each in left:
            if each.now.info and each.now.info.recheck_at:
                self._wait(each.now.info.recheck_at)
        marked = self.removal.pool.map(self._is_marked, left)
        self._erase([each for each, is_marked in zip(left, marked, strict=True) if each.is_there or is_marked])

    def _drop(self, left: Sequence[_Left]) -> None:
        services = self.removal.services
        retry = timedelta(seconds=services.settings.retry_delay_seconds)
        for each in left:
            if self._is_kept(each):
                continue
            outcome = self.removal.drop(each.now.found)
            info = each.now.info
            if outcome is PurgeOutcome.PURGED:
                self.back += 1
            elif outcome is PurgeOutcome.CHANGED and info and info.status is Status.IN_WORK and info.due_at:
                self._wait(info.due_at)
            elif outcome is PurgeOutcome.CHANGED:
                self._wait(services.sessions.redis_time() + retry)  # a clear is not finished yet, or a worker uploads
            else:
                self.spared += each.listed.tally  # used meanwhile

    def _erase(self, left: Sequence[_Left]) -> None:
        removable = list(self._removable(left))
        forbidden = self.removal.forbid([each.found for each in removable if each.needs_floor])
        live = {each.listed.session for each in removable if each.live}
        # A worker may have a lease of these and upload once more, so they ask for another recheck.
        self.back += sum(found.session in live for found, _ in forbidden)
        forbidden += [(each.found, each.listed.epoch + 1) for each in removable if not each.needs_floor]
        by_id = {each.listed.session: each.listed for each in removable}
        for (found, _), erased in zip(forbidden, self.removal.erase(forbidden), strict=True):
            self.back += erased.objects
            listed = by_id.pop(found.session)
            if erased.refused:
                self._keep_objects(listed, erased.refused)
        for listed in by_id.values():
            self.spared += listed.tally  # used meanwhile

    def _removable(self, left: Sequence[_Left]) -> Iterator[_Left]:
        """The sessions that may be removed; the others are counted as spared."""
        for each in left:
            if self._is_kept(each):
                continue
            if self.removal.order.idle is not None and each.newer:
                self.spared += each.listed.tally  # used since it was listed as idle
            else:
                yield each

    def _is_marked(self, left: _Left) -> bool:
        """True if an owner still has a marker of the listed session, perhaps of one without segments."""
        services, listed = self.removal.services, left.listed
        return any(
            erase.owner_markers(services, owner, listed.session, listed.epoch + 1) for owner in left.found.owners
        )

    def _wait(self, until: datetime) -> None:
        self.waits_until = until if self.waits_until is None else max(self.waits_until, until)

    def _is_kept(self, left: _Left) -> bool:
        """True if all of the session may not be removed; notes why."""
        why = left.now.kept or (_UNPROVEN if left.unproven else None)
        if why is None:
            return False
        self.spared += left.listed.tally
        self.kept.add(Kept(session=left.listed.session, why=why))
        return True

    def _keep_objects(self, listed: Found, refused: Sequence[tuple[StoredObject, ArchiveRefused]]) -> None:
        """Note objects that the archive refuses to delete: the session counts as spared, with these objects only."""
        sizes = {each.name: each.size for each in listed.objects}
        kept = [sizes[stored.name] for stored, _ in refused if stored.name in sizes]
        self.spared += Tally(1, listed.messages, len(kept), sum(kept))
        for stored, error in refused:
            self.kept.add(Kept(session=listed.session, object=stored.name, why=str(error), until=error.until))


@dataclass(frozen=True, slots=True)
class _Left:
    """A session as it was listed, and as it is now."""

    listed: Found
    now: Surveyed

    @property
    def found(self) -> Found:
        """The session now, with the listed owners too, because they may still have markers of it."""
        return self.now.found.model_copy(update={"owners": sorted({*self.listed.owners, *self.now.found.owners})})

    @property
    def is_there(self) -> bool:
        """True if Redis or the archive may have something that was listed."""
        return self.live or self.old or self.unproven

    @property
    def live(self) -> bool:
        """True if Redis has the session in the listed epoch or an older one, or in one that can't be compared."""
        info = self.now.info
        if info is None:
            return self.now.unreadable is not None
        return self.unproven or (info.purge is None and info.epoch <= self.listed.epoch)

    @property
    def unproven(self) -> bool:
        """True if the session could not be read in Redis when it was listed, and can be now or was archived since.

        Nothing tells whether it was begun anew since. If the scope is the archive, only what is there counts.
        """
        if not (self.listed.unreadable and self.listed.in_redis) or self.now.unreadable:
            return False
        info = self.now.info
        return self.newer if info is None else info.purge is None

    @property
    def old(self) -> bool:
        """True if the archive has an object of an epoch that was listed, or that is below the tombstone's."""
        info = self.now.info
        newest = max(self.listed.epoch, info.epoch - 1) if info and info.purge is not None else self.listed.epoch
        return any(epoch <= newest for epoch in self._epochs())

    @property
    def newer(self) -> bool:
        """True if the session was used after it was listed; a tombstone does not count."""
        info = self.now.info
        if info is not None:
            return info.purge is None and info.epoch > self.listed.epoch
        return any(epoch > self.listed.epoch for epoch in self._epochs())

    @property
    def needs_floor(self) -> bool:
        """True if the session must be forbidden (again); False if only its listed epochs are left to erase.

        In the second case the floor is there already, and newer epochs of the session stay.
        """
        info = self.now.info
        return self.live or self.now.floor <= self.listed.epoch or (info is not None and info.purge is not None)

    def _epochs(self) -> Iterator[int]:
        for each in self.now.found.objects:
            name = names.parse(self.listed.session, each.name)
            if name:
                yield name.epoch
