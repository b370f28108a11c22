"""A segment's object metadata: a description of the segment, and the properties that a restore gives its session.

A store keeps it as text, under the names that `stored` gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from torpor.history.protocol import Expiry, Origin, SessionInfo
from torpor.worker.archive import names
from torpor.worker.archive.segment import FORMAT, Packed
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.errors import SegmentDamaged

_MILLISECOND = timedelta(milliseconds=1)
# Nothing depends on the others, so damage to them must not keep a session asleep.
_NEEDED = ("session", "base", "sha256", "created", "owner", "idle_ms", "max_age_ms", "retention_ms")
# The entry that covers those, because no checksum of a store covers metadata.
_CHECK = "check"
_SORTED = json.JSONEncoder(sort_keys=True)


def _moment(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else value


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


_Number = Annotated[int, BeforeValidator(int), PlainSerializer(str)]
_Moment = Annotated[datetime, BeforeValidator(_moment), PlainSerializer(_iso)]


class SegmentMetadata(BaseModel):
    """The metadata of a segment. A copy that another program has made of a segment may lack any of it.

    The segment has `count` messages, `[start, stop)` of its epoch, which followed `base` messages of earlier epochs.
    `sha256` is of the uncompressed lines. `created`, `active` (last activity), `owner`, the three spans of the
    expiry and `kind` are the session's.
    """

    model_config = ConfigDict(frozen=True)

    format: str | None = None
    session: str | None = None
    epoch: _Number | None = None
    start: _Number | None = Field(default=None, serialization_alias="from")
    stop: _Number | None = Field(default=None, serialization_alias="to")
    count: _Number | None = None
    base: _Number = 0
    sha256: str | None = None
    created: _Moment | None = None
    active: _Moment | None = None
    owner: str | None = None
    idle_ms: _Number | None = None
    max_age_ms: _Number | None = None
    retention_ms: _Number | None = None
    kind: str | None = None

    @classmethod
    def of(cls, session: SessionInfo, packed: Packed) -> Self:
        """The metadata of a segment that is ready to be sent."""
        return cls(
            format=FORMAT,
            session=session.session_id,
            epoch=packed.name.epoch,
            start=packed.name.start,
            stop=packed.name.stop,
            count=packed.count,
            base=session.restored_count,
            sha256=packed.sha256,
            created=session.created,
            active=session.last_active,
            owner=session.owner,
            idle_ms=_milliseconds(session.expiry.idle),
            max_age_ms=_milliseconds(session.expiry.max_age),
            retention_ms=_milliseconds(session.expiry.retention),
            kind=session.kind,
        )

    @classmethod
    def read(cls, archive: ArchiveStore, segment: StoredObject) -> Self:
        """The metadata that a restore needs; raises SegmentDamaged."""
        if segment.damage is not None:
            raise SegmentDamaged(segment.damage)
        needed = _needed(segment.metadata)
        if not is_as_written(segment):
            raise _damaged(archive, segment, "it is not what was written")
        try:
            read = cls.model_validate(needed)
            _ = read.origin
        except ValidationError as exc:
            faults = [f"{error['loc'][0]}: {error['msg'].removeprefix('Value error, ')}" for error in exc.errors()]
            raise _damaged(archive, segment, "; ".join(faults)) from exc
        except OverflowError as exc:
            raise _damaged(archive, segment, str(exc)) from exc
        return read

    def stored(self) -> dict[str, str]:
        """The metadata as a store keeps it, without the fields that are None."""
        described: dict[str, str] = self.model_dump(by_alias=True, exclude_none=True)
        return described | {_CHECK: _checksum(_needed(described))}

    @property
    def origin(self) -> Origin:
        """The properties of the session that a restore gives back to it."""
        expiry = Expiry(_span(self.idle_ms), _span(self.max_age_ms), _span(self.retention_ms))
        return Origin(self.created, expiry, self.owner)


def is_as_written(stored: StoredObject) -> bool:
    """False if somebody or something has changed the metadata of a segment that a restore needs."""
    return stored.metadata.get(_CHECK) in (None, _checksum(_needed(stored.metadata)))


def damage_of(archive: ArchiveStore, stored: StoredObject) -> str | None:
    """Why a restore could not use the metadata of a segment; None if it could, and for every other object."""
    if not stored.name.endswith(".jsonl.gz") or stored.name.startswith((names.PURGES.work, names.JOBS.work)):
        return None
    try:
        SegmentMetadata.read(archive, stored)
    except SegmentDamaged as exc:
        return str(exc)
    return None


def _needed(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: metadata[name] for name in _NEEDED if name in metadata}


def _checksum(needed: Mapping[str, str]) -> str:
    return sha256(_SORTED.encode(needed).encode()).hexdigest()[:16]


def _damaged(archive: ArchiveStore, segment: StoredObject, fault: str) -> SegmentDamaged:
    return SegmentDamaged(f"the metadata of {archive.url}/{segment.name} is damaged: {fault}")


def _milliseconds(span: timedelta | None) -> int | None:
    return None if span is None else span // _MILLISECOND


def _span(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)
