"""Search: which sessions a list should have, and the walk that finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from torpor.history.protocol import InvalidArgument, SessionInfo, SessionKind, Status, check_owner
from torpor.worker.access import listing
from torpor.worker.access.cursor import Cursor, Stretch
from torpor.worker.access.listing import AsleepSession, Page, Progress
from torpor.worker.deployment.services import Services
from torpor.worker.pace import Pace


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody looks for: an owner's sessions, or those that a walk finds, awake, asleep or both.

    `status` is for sessions in Redis, and `since` is the earliest last activity. `counts`: as in `listing.asleep`.
    """

    owner: str | None = None
    prefix: str = ""
    kind: SessionKind | None = None
    status: Status | None = None
    since: datetime | None = None
    awake: bool = True
    asleep: bool = True
    counts: bool = False

    @property
    def is_walk(self) -> bool:
        """True if the sessions of everybody are looked at, so that it takes the longer the more there are."""
        return self.owner is None

    def wants(self, found: SessionInfo | AsleepSession) -> bool:
        """True if the list should have this session."""
        return (
            (self.kind is None or found.kind == self.kind)
            and found.session_id.startswith(self.prefix)
            and (self.since is None or found.last_active >= self.since)
            and (self.status is None or found.status is self.status)
            and (self.awake if isinstance(found, SessionInfo) else self.asleep)
        )

    def pages(
        self,
        services: Services,
        pace: Pace,
        after: Cursor | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> Iterator[Page]:
        """The pages to choose from, in the order of the list; a walk keeps to the pace, and tells its progress.

        Raises InvalidOwner, and InvalidArgument for the cursor of another list.
        """
        asleep = self.asleep and self.status is None
        if self.owner is not None:
            self._check(after, Stretch.OWNED)
            return listing.of_owner(services, check_owner(self.owner), after, prefix=self.prefix)
        self._check(after, *([Stretch.AWAKE] if self.awake else []), *([Stretch.ASLEEP] if asleep else []))
        if not self.awake or (after and after.stretch is Stretch.ASLEEP):
            return self._asleep(services, pace, after, progress)
        quarantined = None if self.status is None else self.status is Status.QUARANTINED
        live = listing.awake(services, pace, after, prefix=self.prefix, quarantined=quarantined, progress=progress)
        return chain(live, self._asleep(services, pace, None, progress)) if asleep else live

    def _asleep(
        self, services: Services, pace: Pace, after: Cursor | None, progress: Callable[[Progress], None]
    ) -> Iterator[Page]:
        return listing.asleep(services, pace, after, prefix=self.prefix, counts=self.counts, progress=progress)

    def _check(self, after: Cursor | None, *stretches: Stretch) -> None:
        if after and after.stretch not in stretches:
            raise InvalidArgument("the cursor is of another list: give the options that gave it")
