"""Trail: records an act of a person before it is done, and how it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto

from torpor.history.protocol import InvalidArgument, TorporError
from torpor.worker.archive import documents, names
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import MOST_BYTES, MOST_SESSIONS, Begun, Ended, How, Subject, begin
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services
from torpor.worker.errors import AuditUnwritten
from torpor.worker.failpoints import Failpoint, reach


@dataclass(frozen=True, slots=True)
class Who:
    """Who does something, and why: free text."""

    by: str = ""
    reason: str = ""

    def check(self, services: Services) -> None:
        """Raise InvalidArgument if the deployment requires what is missing."""
        if services.settings.require_reason and not (self.by.strip() and self.reason.strip()):
            raise InvalidArgument("this deployment requires --by and --reason (TORPOR_REQUIRE_REASON)")


class Sides(Enum):
    """What the caller of an act knows of Redis and the archive."""

    COMPARED = auto()  # they belong together, or nobody has used them yet
    UNCOMPARED = auto()  # nothing: an archive that does not belong to this Redis must not get the entry
    PARTED = auto()  # they do not belong together yet, and the act is to change that


@dataclass(slots=True)
class Count:
    """To how many sessions an act has been done; the act counts them, and says if it has changed nothing."""

    sessions: int = 0
    is_unchanged: bool = False

    def note(self, sessions: int) -> None:
        """Say to how many sessions it was done; if to none, it has changed nothing."""
        self.sessions, self.is_unchanged = sessions, not sessions


@contextmanager
def recorded(
    services: Services,
    act: Act,
    subject: Subject,
    who: Who,
    warn: Callable[[str], None],
    *,
    sides: Sides = Sides.COMPARED,
) -> Iterator[Count]:
    """Record an act that the body does: its beginning before, its end after, and the error that ends the body.

    If the archive can't take the beginning, and the deployment requires reasons (`require_reason`), raises
    AuditUnwritten, and the body is not run; else calls `warn`. An end that can't be written is a warning. Nothing is
    recorded of a deployment that nobody has used. Raises InvalidArgument if who or why is required and missing.
    """
    who.check(services)
    record = _Record(services, warn)
    record.begin(act, subject, who, sides)
    reach(Failpoint.AUDIT_BEGUN)
    count = Count()
    try:
        yield count
    except Exception as error:
        record.end(How.FAILED, count, type(error).__name__)
        raise
    except BaseException:
        record.end(How.INTERRUPTED, count)
        raise
    record.end(How.UNCHANGED if count.is_unchanged else How.DONE, count)


def write(services: Services, document: Begun | Ended, begun_at: datetime) -> None:
    """Write a part of an entry, which both expire together. Raises the errors of ArchiveStore.put."""
    part = names.AUDIT_BEGUN if isinstance(document, Begun) else names.AUDIT_ENDED
    seconds = services.settings.audit_retention_seconds
    until = None if seconds is None else begun_at + timedelta(seconds=seconds)
    documents.put(services.archive, names.audit_name(document.id, part), document, most=MOST_BYTES, custom_time=until)


@dataclass(slots=True)
class _Record:
    """The entries of one act: one for each 1,000 sessions that it names."""

    services: Services
    warn: Callable[[str], None]
    begun: list[Begun] = field(default_factory=list)

    def begin(self, act: Act, subject: Subject, who: Who, sides: Sides) -> None:
        known = self.services.sessions.identity()
        if sides is not Sides.PARTED and (known.deployment is None or known.archive is None):
            return
        at = known.read_at or self.services.sessions.redis_time()
        try:
            if sides is Sides.UNCOMPARED:
                identity.check(self.services.sessions, self.services.archive)
            for each in _lots(subject):
                begun = begin(at, act, each, by=who.by, reason=who.reason)
                write(self.services, begun, at)
                self.begun.append(begun)
        except InvalidArgument:
            raise
        except TorporError as exc:
            if self.services.settings.require_reason:
                self.end(How.FAILED, Count(), AuditUnwritten.__name__)
                raise AuditUnwritten(f"not done, because the audit trail can't be written: {exc}") from exc
            self.warn(f"this is not in the audit trail: {exc}")

    def end(self, how: How, count: Count, error: str | None = None) -> None:
        """Write the ends; the first one has the count of all."""
        if not self.begun:
            return
        try:
            at = self.services.sessions.redis_time()
            for number, each in enumerate(self.begun):
                sessions = 0 if number else count.sessions
                write(self.services, Ended(audit=each.id, at=at, how=how, sessions=sessions, error=error), each.at)
        except TorporError as exc:
            self.warn(f"its end is not in the audit trail: {exc}")


def _lots(subject: Subject) -> Iterator[Subject]:
    for first in range(0, max(len(subject.sessions), 1), MOST_SESSIONS):
        yield subject.model_copy(update={"sessions": subject.sessions[first : first + MOST_SESSIONS]})
