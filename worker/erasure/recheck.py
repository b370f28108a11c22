"""The second look of a purge: whatever is left of what was listed is removed, and what may not be is told.

What came after the purge is not touched: a session that was begun anew has newer epochs than were listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from torpor.history.protocol import PurgeOutcome, Status
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.erasure import erase
from torpor.worker.erasure.inventory import Found, Surveyed, Tally
from torpor.worker.erasure.orders import Scope
from torpor.worker.erasure.receipts import Kept, Remainder
from torpor.worker.erasure.removal import Removal
from torpor.worker.errors import ArchiveRefused


@dataclass
class SecondLook:
    """One look at all that was listed: what may not be removed, what was spared, how much was there again."""

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
        self._erase([each for each, is_marked in zip(left, marked, strict=True) if each.live or each.old or is_marked])

    def _drop(self, left: Sequence[_Left]) -> None:
        retry = timedelta(seconds=self.removal.services.settings.retry_delay_seconds)
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
                self._wait(datetime.now(UTC) + retry)  # a clear is being finished, or a worker uploads
            else:
                self.spared += each.listed.tally  # used meanwhile

    def _erase(self, left: Sequence[_Left]) -> None:
        free: list[_Left] = []
        for each in left:
            if self._is_kept(each):
                continue
            if self.removal.order.idle is not None and each.newer:
                self.spared += each.listed.tally  # it was used since it was listed
            else:
                free.append(each)
        forbidden = self.removal.forbid([each.found for each in free if each.is_to_be_forbidden])
        live = {each.listed.session for each in free if each.live}
        self.back += sum(found.session in live for found, _ in forbidden)  # whose lease may run: another look waits
        forbidden += [(each.found, each.listed.epoch + 1) for each in free if not each.is_to_be_forbidden]
        by_id = {each.listed.session: each.listed for each in free}
        for (found, _), erased in zip(forbidden, self.removal.erase(forbidden), strict=True):
            self.back += erased.objects
            if erased.refused:
                self._keep_objects(by_id.pop(found.session), erased.refused)
            else:
                del by_id[found.session]
        for listed in by_id.values():
            self.spared += listed.tally  # used meanwhile

    def _is_marked(self, left: _Left) -> bool:
        """Has an owner a marker of it still, of which there may be no segment?"""
        services, listed = self.removal.services, left.listed
        return any(
            erase.owner_markers(services, owner, listed.session, listed.epoch + 1) for owner in left.found.owners
        )

    def _wait(self, until: datetime) -> None:
        self.waits_until = until if self.waits_until is None else max(self.waits_until, until)

    def _is_kept(self, left: _Left) -> bool:
        """Must the session stay as a whole?"""
        if left.now.hold:
            why = f"legal hold: {left.now.hold.reason}"
        elif self.removal.is_others(left.now.found):
            why = "in Redis the session is another owner's"
        else:
            return False
        self.spared += left.listed.tally
        self.kept.add(Kept(left.listed.session, why))
        return True

    def _keep_objects(self, listed: Found, refused: Sequence[tuple[StoredObject, ArchiveRefused]]) -> None:
        """The session counts as not removed, and of its objects those that the archive refuses to delete."""
        sizes = {each.name: each.size for each in listed.objects}
        kept = [sizes[stored.name] for stored, _ in refused if stored.name in sizes]
        self.spared += Tally(1, listed.messages, len(kept), sum(kept))
        for stored, why in refused:
            self.kept.add(Kept(listed.session, str(why), stored.name, why.until))


@dataclass(frozen=True, slots=True)
class _Left:
    """A session as it was listed, and as it is now."""

    listed: Found
    now: Surveyed

    @property
    def found(self) -> Found:
        """What there is now, with the owners that were listed, who may have markers of it still."""
        owners = sorted({*self.listed.owners, *self.now.found.owners})
        return Found(**{name: getattr(self.now.found, name) for name in self.now.found.__slots__} | {"owners": owners})

    @property
    def live(self) -> bool:
        """Is it in Redis as it was listed, or as Redis was before?"""
        info = self.now.info
        return info is not None and info.purge is None and info.epoch <= self.listed.epoch

    @property
    def old(self) -> bool:
        """Has the archive something of it that is as old as what was listed, or older than its tombstone?"""
        info = self.now.info
        newest = max(self.listed.epoch, info.epoch - 1) if info and info.purge is not None else self.listed.epoch
        return any(epoch <= newest for epoch in self._epochs())

    @property
    def newer(self) -> bool:
        """Was it used since it was listed, its tombstone apart?"""
        info = self.now.info
        if info is not None:
            return info.purge is None and info.epoch > self.listed.epoch
        return any(epoch > self.listed.epoch for epoch in self._epochs())

    @property
    def is_to_be_forbidden(self) -> bool:
        """Has its old part never been forbidden, or does Redis not know of it any more?

        Else only what is old is erased, and what was begun since stays.
        """
        info = self.now.info
        return self.live or self.now.floor <= self.listed.epoch or (info is not None and info.purge is not None)

    def _epochs(self) -> Iterator[int]:
        for each in self.now.found.objects:
            name = names.parse(self.listed.session, each.name)
            if name:
                yield name.epoch
