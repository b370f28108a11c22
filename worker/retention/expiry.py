"""How long the archive keeps a session: the custom time of its objects, after which the store deletes them.

All segments of a session get the same one, so that none goes before the others.
Sources: https://cloud.google.com/storage/docs/lifecycle#dayssincecustomtime and .../docs/metadata#custom-time
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

from torpor.history.protocol import Origin, Policies, PurgeOutcome, SessionInfo
from torpor.worker.archive import contents
from torpor.worker.archive.contents import Contents, Segment
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.errors import ObjectNotFound

if TYPE_CHECKING:  # applications that wake sessions need neither
    from torpor.worker.deployment.services import Services
    from torpor.worker.deployment.settings import Settings

log = logging.getLogger("torpor.retention")

# A custom time can't be taken away again: what is to be kept for ever after all gets this one.
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
# What has expired is deleted some time later and in no order, and the marker by which a purge finds it must go last.
_MARKER_OUTLIVES = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """How long the archives of a deployment are kept: its policies, and `default`, which is for ever if None."""

    policies: Policies
    default: timedelta | None

    @classmethod
    def of(cls, settings: Settings) -> RetentionRules:
        """As the settings have it; applications have it from Redis, where a worker has recorded it."""
        return cls(settings.rules, settings.archive_retention)

    def span(self, session_id: str, owner: str | None, own: timedelta | None) -> timedelta | None:
        """How long after its last activity a session is kept that has `own` of its own; None is for ever."""
        return self.policies.retention(session_id, owner, own, self.default)


def ends_at(settings: Settings, session: SessionInfo) -> datetime | None:
    """When the archive of a session may go: its last activity and what it has of its own, a rule or the settings.

    None is for ever.
    """
    span = RetentionRules.of(settings).span(session.session_id, session.owner, session.expiry.retention)
    return None if span is None else session.last_active + span


def is_used(settings: Settings, session: SessionInfo) -> bool:
    """Does this deployment, or the session, set an end to any archive? Else no object needs to be looked at for it."""
    by_rule = any(rule.retention for rule in settings.rules.rules)
    return by_rule or settings.archive_retention is not None or session.expiry.retention is not None


def of_marker(until: datetime | None) -> datetime | None:
    """When the marker of a session's owner may go whose segments expire at `until`."""
    return None if until is None else until + _MARKER_OUTLIVES


def see_to(services: Services, snapshot: SessionInfo) -> Contents:
    """Have all that the archive has of a session that falls asleep expire together; returns that.

    What had expired while the session was in Redis without it is left to expire.
    """
    held = contents.look(services.archive, snapshot.session_id)
    if not snapshot.complete:
        held = _without_expired(held, snapshot.epoch)
    until = ends_at(services.settings, snapshot)
    return _prolong(services.archive, held, [each for each in held.segments if _ends_before(each, until)], until)


def keep_awake(archive: ArchiveStore, keeping: RetentionRules, held: Contents, origin: Origin) -> Contents:
    """Keep the segments of a session that wakes up for its whole retention from now on; returns what is left of them.

    What is kept for ever stays so.
    """
    span = keeping.span(held.session_id, origin.owner, origin.expiry.retention)
    until = None if span is None else datetime.now(UTC) + span
    late = [each for each in held.segments if each.stored.custom_time and _ends_before(each, until)]
    return _prolong(archive, held, late, until)


def unexpired(held: Contents) -> Contents:
    """What a session can be read from: a store may still have what expired, or a part of it.

    What a legal hold keeps can be read.
    """
    return _without_expired(held)


def begin_anew(services: Services, snapshot: SessionInfo, held: Contents) -> bool:
    """Have a session archived as a whole again that was awake for longer than the archive keeps what it had of it.

    It keeps its messages, in a new epoch. False, and nothing is changed, where the archive could have what Redis has
    not, or a legal hold forbids to erase the rest.
    """
    if ends_at(services.settings, snapshot) is None or not _has_all_of(snapshot, held.segments):
        return False
    owners = {each.stored.metadata.get("owner") for each in held.segments} - {None}
    begun = services.sessions.begin_anew(snapshot, sorted(map(str, owners)))
    if begun.floor is not None:
        log.info("session %r outlived its archived part and is archived anew", snapshot.session_id)
    return begun.outcome is not PurgeOutcome.HELD


def _has_all_of(snapshot: SessionInfo, segments: Sequence[Segment]) -> bool:
    """Does Redis have every message of these? Not those of forks, nor of older epochs unless it was restored."""
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


def _without_expired(held: Contents, below: int | None = None) -> Contents:
    """The same without segments, of epochs below one, that have expired and are not held."""
    now = datetime.now(UTC)
    return replace(
        held,
        segments=[
            each
            for each in held.segments
            if each.stored.held
            or each.stored.custom_time is None
            or each.stored.custom_time > now
            or (below is not None and each.name.epoch >= below)
        ],
    )


def _ends_before(segment: Segment, until: datetime | None) -> bool:
    """Must the segment's custom time be another one, for it to expire at `until`?"""
    custom_time = segment.stored.custom_time
    if custom_time is None:
        return until is not None
    return custom_time < (until or NEVER)


def _prolong(archive: ArchiveStore, held: Contents, late: Sequence[Segment], until: datetime | None) -> Contents:
    """Amend segments, their owners' markers first; returns the holdings without what expired meanwhile.

    Creates nothing, so that an erasure that runs at the same time leaves nothing behind. Repeatable.
    """
    for owner in sorted({each.stored.metadata.get("owner", "") for each in late} - {""}):
        if marker := _newest_marker(archive, owner, held.session_id):
            with suppress(ObjectNotFound):
                archive.amend(marker, custom_time=of_marker(until or NEVER))
    gone = {each.name for each in late if not _amended(archive, each.stored, until or NEVER)}
    return replace(held, segments=[each for each in held.segments if each.name not in gone]) if gone else held


def _amended(archive: ArchiveStore, stored: StoredObject, until: datetime) -> bool:
    try:
        archive.amend(stored, custom_time=until)
    except ObjectNotFound:
        return False
    return True


def _newest_marker(archive: ArchiveStore, owner: str, session_id: str) -> StoredObject | None:
    """By which a session can be found; the older ones may go."""
    return max(contents.owner_markers(archive, owner, session_id), key=itemgetter(0), default=(0, None))[1]
