"""How long the archive keeps a session: the custom time of its objects, after which the store deletes them.

All segments of a session get the same one, so that none goes before the others.
Sources: https://cloud.google.com/storage/docs/lifecycle#dayssincecustomtime and .../docs/metadata#custom-time
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

from torpor.history.protocol import Origin, Policies, PurgeOutcome, SessionInfo
from torpor.worker.archive.contents import Contents, Segment, look, owner_markers
from torpor.worker.archive.stores import NEVER, ArchiveStore, StoredObject
from torpor.worker.errors import ObjectNotFound

if TYPE_CHECKING:  # applications that wake sessions import neither
    from torpor.worker.deployment.services import Services
    from torpor.worker.deployment.settings import Settings

log = logging.getLogger("torpor.retention")

Clock = Callable[[], datetime]

# A store deletes expired objects later and in any order. The marker by which a purge finds segments must go last.
_MARKER_OUTLIVES = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """How long a deployment keeps archives: by its policies, else for `default`; None is for ever."""

    policies: Policies
    default: timedelta | None

    @classmethod
    def of(cls, settings: Settings) -> RetentionRules:
        """The rules of the settings. Applications get them from Redis, where a worker records them."""
        return cls(settings.rules, settings.archive_retention)

    def span(self, session_id: str, owner: str | None, own: timedelta | None) -> timedelta | None:
        """How long after its last activity a session is kept, if its own retention is `own`; None is for ever."""
        return self.policies.retention(session_id, owner, own, self.default)


def ends_at(settings: Settings, session: SessionInfo) -> datetime | None:
    """When the archive of a session may be deleted: its retention after its last activity; None is never."""
    span = RetentionRules.of(settings).span(session.session_id, session.owner, session.expiry.retention)
    return None if span is None else session.last_active + span


def may_expire(settings: Settings, session: SessionInfo) -> bool:
    """False if neither the deployment nor the session limits any retention: then no custom time needs a look."""
    by_rule = any(rule.retention for rule in settings.rules.rules)
    return by_rule or settings.archive_retention is not None or session.expiry.retention is not None


def marker_ends_at(until: datetime | None) -> datetime | None:
    """When an owner marker may be deleted, if the segments of its session expire at `until`."""
    return None if until is None else until + _MARKER_OUTLIVES


def expire_together(services: Services, snapshot: SessionInfo) -> Contents:
    """Give all segments of a session that falls asleep the same custom time; returns its contents in the archive.

    Segments that expired while Redis had the session without them are left to expire.
    """
    contents = look(services.archive, snapshot.session_id)
    if not snapshot.complete:
        contents = _without_expired(contents, services.sessions.redis_time, snapshot.epoch)
    until = ends_at(services.settings, snapshot)
    late = [each for each in contents.segments if _ends_before(each, until)]
    return _prolong(services.archive, contents, late, until)


def restart_retention(
    archive: ArchiveStore,
    rules: RetentionRules,
    contents: Contents,
    origin: Origin,
    *,
    below: int | None,
    now: datetime,
) -> Contents:
    """Keep the segments of a session that wakes up for its full retention from `now` on; returns those that are left.

    Only the epochs `below` one wake up, unless it is None, and `origin` is theirs. Segments that are kept for ever
    stay so.
    """
    span = rules.span(contents.session_id, origin.owner, origin.expiry.retention)
    until = None if span is None else now + span
    woken = [each for each in contents.segments if below is None or each.name.epoch < below]
    late = [each for each in woken if each.stored.custom_time and _ends_before(each, until)]
    return _prolong(archive, contents, late, until)


def unexpired(contents: Contents, clock: Clock) -> Contents:
    """The contents without expired segments: a store may have deleted some of them already.

    `clock` is Redis's, and is asked only if a segment has an end. Expired segments under a hold stay, because no store
    deletes them.
    """
    return _without_expired(contents, clock)


def begin_anew(services: Services, snapshot: SessionInfo, contents: Contents) -> bool:
    """Have the complete session archived again, in a new epoch, because its archived part expired while it was awake.

    False, and nothing is changed, if the archive may have messages that Redis lacks, or if a legal hold forbids to
    erase the rest of the old epoch.
    """
    if ends_at(services.settings, snapshot) is None or not _has_all_of(snapshot, contents.segments):
        return False
    owners = {each.stored.metadata.get("owner") for each in contents.segments} - {None}
    begun = services.sessions.begin_anew(snapshot, sorted(map(str, owners)))
    if begun.floor is not None:
        log.info("session %r outlived its archived part and is archived anew", snapshot.session_id)
    return begun.outcome is not PurgeOutcome.HELD


def _has_all_of(snapshot: SessionInfo, segments: Sequence[Segment]) -> bool:
    """True if Redis has every message of the segments.

    It lacks those of a divergent segment, and before a complete restore those of older epochs.
    """
    own = snapshot.message_count - snapshot.restored_count
    known = all(
        each.name.stop <= own
        if each.name.epoch == snapshot.epoch
        else snapshot.complete and each.name.epoch < snapshot.epoch
        for each in segments
    )
    overlap = any(
        one.name.epoch == other.name.epoch and one.name.stop > other.name.start for one, other in pairwise(segments)
    )
    return known and not overlap


def _without_expired(contents: Contents, clock: Clock, below: int | None = None) -> Contents:
    """The contents without segments that have expired and are not held; of epochs `below` one, if it is given."""
    ends = {
        each.name: each.stored.custom_time
        for each in contents.segments
        if each.stored.custom_time and not each.stored.held and (below is None or each.name.epoch < below)
    }
    if not ends:
        return contents
    now = clock()
    left = [each for each in contents.segments if each.name not in ends or ends[each.name] > now]
    return replace(contents, segments=left)


def _ends_before(segment: Segment, until: datetime | None) -> bool:
    """True if the segment's custom time must be moved later, for it to expire at `until`."""
    custom_time = segment.stored.custom_time
    if custom_time is None:
        return until is not None
    return custom_time < (until or NEVER)


def _prolong(archive: ArchiveStore, contents: Contents, late: Sequence[Segment], until: datetime | None) -> Contents:
    """Move the custom times of `late` segments, their owner markers first; returns the contents that are left.

    Creates no object, so that an erasure that runs at the same time leaves none behind. Repeatable.
    """
    for owner in sorted({each.stored.metadata.get("owner", "") for each in late} - {""}):
        if marker := _newest_marker(archive, owner, contents.session_id):
            with suppress(ObjectNotFound):
                archive.amend(marker, custom_time=marker_ends_at(until or NEVER))
    gone = {each.name for each in late if not _amended(archive, each.stored, until or NEVER)}
    left = [each for each in contents.segments if each.name not in gone]
    return replace(contents, segments=left) if gone else contents


def _amended(archive: ArchiveStore, stored: StoredObject, until: datetime) -> bool:
    try:
        archive.amend(stored, custom_time=until)
    except ObjectNotFound:
        return False
    return True


def _newest_marker(archive: ArchiveStore, owner: str, session_id: str) -> StoredObject | None:
    """The marker by which a session can be found. The older ones may expire."""
    return max(owner_markers(archive, owner, session_id), key=itemgetter(0), default=(0, None))[1]
