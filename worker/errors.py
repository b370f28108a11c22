"""The errors that torpor.worker adds to those of torpor.history.

TorporError
├── TransientError
│   ├── AuditUnwritten        the archive can't take what a person is about to do, so it was not done
│   ├── PurgeOvertaken        another worker carries the same purge out
│   └── ArchiveUnavailable    the bucket or folder can't be reached or can't serve now: no session's fault
│       └── ArchiveMisconfigured  it is missing or refuses every request until someone changes a setting
└── PermanentError
    ├── SettingsError         settings are wrong; the message names all of them
    ├── ArchiveConflict       an object of this name exists with other content
    ├── ArchiveCorrupt        the archive has other bytes than were sent to it
    ├── AttemptsExhausted     the workers that archived a session died again and again
    ├── ClearForgotten        the archive has a clear that Redis has forgotten
    ├── SegmentDamaged        a segment is not what its name and metadata say
    ├── SegmentMissing        the archive has a gap
    ├── ArchiveRefused        a retention policy, a hold or a missing permission of the archive forbids it
    ├── ObjectNotFound        the archive has no object of this name
    ├── PurgeNotFound         there is no purge of this id
    ├── JobNotFound           there is no job of this id
    ├── HoldNotFound          there is no such legal hold to release
    ├── OwnerNotFound         nothing is known of an owner whose sessions are to be purged
    ├── DocumentDamaged       a document of a purge, of a job or of the audit trail is damaged
    ├── DeploymentMismatch    Redis and the archive do not belong to one deployment
    │   └── ArchiveTaken      the archive belongs to a deployment of another namespace
    └── ImportFailed          a line of an import file is wrong
"""

from __future__ import annotations

from datetime import datetime

from torpor.history.protocol import PermanentError, TransientError


class ArchiveUnavailable(TransientError):
    """The archive can't be reached or can't serve now; sessions stay in Redis meanwhile."""


class ArchiveMisconfigured(ArchiveUnavailable):
    """The archive is missing or refuses every request, until someone changes a setting; no session's fault either."""


class AuditUnwritten(TransientError):
    """The audit trail can't be written, and the deployment requires it; nothing was done."""


class PurgeOvertaken(TransientError):
    """Another worker carries the same purge out by now."""


class SettingsError(PermanentError, ValueError):
    """Settings are wrong; the message names all of them."""


class ArchiveConflict(PermanentError):
    """An object of this name exists with other content; nothing was written."""


class ArchiveCorrupt(PermanentError):
    """The archive has other bytes than were sent to it."""


class AttemptsExhausted(PermanentError):
    """The workers that archived the session died again and again."""


class ClearForgotten(PermanentError):
    """The archive has a clear that Redis has forgotten in a failover; a restore would ignore what came after."""


class SegmentDamaged(PermanentError):
    """A segment is not what its name and metadata say."""


class SegmentMissing(PermanentError):
    """A segment is missing between those that the archive has."""


class ArchiveRefused(PermanentError):
    """The archive forbids it, by a retention policy, a hold or a missing permission; nothing was changed.

    `until` is when the retention of the object ends. If `held`, somebody must release a hold first.
    """

    def __init__(self, message: str, *, until: datetime | None = None, held: bool = False) -> None:
        super().__init__(message)
        self.until = until
        self.held = held


class ObjectNotFound(PermanentError, LookupError):
    """The archive has no object of this name."""


class PurgeNotFound(PermanentError, LookupError):
    """There is no purge of this id."""


class JobNotFound(PermanentError, LookupError):
    """There is no job of this id."""


class HoldNotFound(PermanentError, LookupError):
    """There is no such legal hold to release."""


class OwnerNotFound(PermanentError, LookupError):
    """Neither Redis nor the archive has a session of this owner."""


class DocumentDamaged(PermanentError):
    """A document of a purge, a job or the audit trail is damaged: its order, what it is for, or what it has left."""

    @property
    def left_out(self) -> str:
        """What a list says in the place of the document, and what to do."""
        return f"left out: {self}; put an earlier version of the object back, or delete it if nobody needs it"


class DeploymentMismatch(PermanentError):
    """Redis and the archive do not belong to one deployment; nothing was changed. The message names the way out."""


class ArchiveTaken(DeploymentMismatch):
    """The archive belongs to a deployment of another namespace; nothing was written."""


class ImportFailed(PermanentError, ValueError):
    """A line of an import file is wrong; the message names it."""
