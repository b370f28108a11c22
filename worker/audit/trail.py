"""Trail: records an act of a person before it is done, and how it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from torpor.history.protocol import InvalidArgument, TorporError
from torpor.worker.archive import documents, names
from torpor.worker.audit.entry import MOST_BYTES, MOST_SESSIONS, Act, Begun, Ended, How, Subject, begin
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


@dataclass(slots=True)
class Count:
    """How many sessions an act has been done to; the act counts them."""

    sessions: int = 0


@contextmanager
def recorded(
    services: Services,
    act: Act,
    subject: Subject,
    who: Who,
    warn: Callable[[str], None],
    *,
    compared: bool = True,
) -> Iterator[Count]:
    """Record an act that the body does: its beginning before, its end after, and the error that ends the body.

    If the archive can't take the beginning, and the deployment requires reasons (`require_reason`), raises
    AuditUnwritten, and the body is not run; else calls `warn`. An end that can't be written is a warning. Nothing is
    recorded of a deployment that nobody has used. `compared`: the caller knows that Redis and the archive belong
    together; else an archive that does not is one that can't take the entry. Raises InvalidArgument if who or why is
    required and missing.
    """
    who.check(services)
    record = _Record(services, warn)
    record.begin(act, subject, who, compared=compared)
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
    record.end(How.DONE, count)


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

    def begin(self, act: Act, subject: Subject, who: Who, *, compared: bool) -> None:
        recorded = self.services.sessions.identity()
        if recorded.deployment is None or recorded.archive is None:
            return
        at = recorded.read_at or datetime.now(UTC)
        begun = [begin(at, act, each, by=who.by, reason=who.reason) for each in _lots(subject)]
        try:
            if not compared:
                identity.check(self.services.sessions, self.services.archive)
            for each in begun:
                write(self.services, each, at)
        except InvalidArgument:
            raise
        except TorporError as exc:
            if self.services.settings.require_reason:
                raise AuditUnwritten(f"nothing was done, because the audit trail can't be written: {exc}") from exc
            self.warn(f"this is not in the audit trail: {exc}")
        else:
            self.begun = begun

    def end(self, how: How, count: Count, error: str | None = None) -> None:
        """Write the ends; the first one has the count of all."""
        if not self.begun:
            return
        try:
            at = self.services.sessions.identity().read_at or datetime.now(UTC)
            for number, each in enumerate(self.begun):
                sessions = 0 if number else count.sessions
                write(self.services, Ended(audit=each.id, at=at, how=how, sessions=sessions, error=error), each.at)
        except TorporError as exc:
            self.warn(f"its end is not in the audit trail: {exc}")


def _lots(subject: Subject) -> list[Subject]:
    firsts = range(0, max(len(subject.sessions), 1), MOST_SESSIONS)
    return [
        subject.model_copy(update={"sessions": subject.sessions[first : first + MOST_SESSIONS]}) for first in firsts
    ]
