"""Reading the audit trail: its entries in their order, those that can't be read told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any, TypeVar

from torpor.history.protocol import check_owner, check_session_id
from torpor.worker.archive import documents, names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import MOST_BYTES, MOST_SESSIONS, Begun, Ended, check_id
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DocumentDamaged, ObjectNotFound
from torpor.worker.jobs import orders

D = TypeVar("D", Begun, Ended)

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the audit trail. Without an end, the command runs or was killed."""

    begun: Begun
    ended: Ended | None

    def fields(self) -> dict[str, Any]:
        """The entry as JSON has it."""
        ended = self.ended.fields() if self.ended else {}
        ended.pop("audit", None)
        return {**self.begun.fields(), "ended": ended or None}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries somebody asks for; None for whatever there is. `by` is who, as `by` or `login` of an entry.

    Raises InvalidArgument for what can't be the id of a session, a purge or a job, or the name of an owner.
    """

    by: str | None = None
    act: Act | None = None
    session: str | None = None
    owner: str | None = None
    purge: str | None = None
    job: str | None = None

    def __post_init__(self) -> None:
        """Check what no entry could have."""
        if self.session is not None:
            check_session_id(self.session)
        if self.owner is not None:
            check_owner(self.owner)
        for what, each in (("purge", self.purge), ("job", self.job)):
            if each is not None:
                orders.check_id(each, what)

    def has(self, entry: Entry) -> bool:
        """True for such an entry."""
        begun = entry.begun
        return (
            self.by in (None, begun.by, begun.login)
            and self.act in (None, begun.act)
            and (self.session is None or self.session in begun.subject.sessions)
            and self.owner in (None, begun.subject.owner)
            and self.purge in (None, begun.subject.purge)
            and self.job in (None, begun.subject.job)
        )


def entries(
    services: Services, damaged: Callable[[DocumentDamaged], None], since: datetime | None = None, after: str = ""
) -> Iterator[Entry]:
    """The entries that have begun `since` a moment, or all, oldest first by Redis's clock; 64 are in memory.

    Those that come `after` the one of this id alone are read. Calls `damaged` for each one that can't be read, and goes
    on. Raises InvalidArgument if `after` is no id of an entry.
    """
    if after:
        check_id(after)
    found = (each for each in _stored(services, _later(since, after)) if each[0] > after)
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while batch := list(islice(found, _BATCH)):
            for entry in pool.map(lambda each: _read(services, *each), batch):
                if isinstance(entry, DocumentDamaged):
                    damaged(entry)
                elif entry and (since is None or entry.begun.at >= since):
                    yield entry


def check(services: Services, stored: StoredObject) -> None:
    """Raise DocumentDamaged if an object below `names.AUDIT` is no part of an entry that can be read."""
    audit, part = names.audit_of(stored.name)
    if part == names.AUDIT_ENDED:
        _part(services, audit, stored, Ended)
    elif part == names.AUDIT_BEGUN:
        _part(services, audit, stored, Begun)
    else:
        raise DocumentDamaged(f"{stored.name} belongs to no entry of the audit trail")


def _later(since: datetime | None, after: str) -> datetime | None:
    """The later one of a moment and that of an entry's id."""
    try:
        begun = datetime.strptime(after[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return since
    return begun if since is None else max(begun, since)


def _stored(services: Services, since: datetime | None) -> Iterator[tuple[str, list[StoredObject]]]:
    """The objects of each entry."""
    for prefix in _prefixes(since):
        listed = services.archive.list(f"{names.AUDIT}{prefix}")
        for audit, group in groupby(listed, key=lambda each: names.audit_of(each.name)[0]):
            yield audit, list(islice(group, 3))


def _prefixes(since: datetime | None) -> Iterable[str]:
    """The prefixes of all days from a moment on, whatever a clock said: `202611`, 29 -> `20261129`, `2026113`, ..."""
    if since is None:
        return [""]
    at = since.astimezone(UTC)
    day = f"{at.year:04d}{at:%m%d}"
    later = [f"{day[:place]}{digit}" for place in reversed(range(len(day))) for digit in range(int(day[place]) + 1, 10)]
    return [day, *later]


def _read(services: Services, audit: str, stored: list[StoredObject]) -> Entry | DocumentDamaged | None:
    by_part = {names.audit_of(each.name)[1]: each for each in stored}
    try:
        if set(by_part) - {names.AUDIT_BEGUN, names.AUDIT_ENDED} or names.AUDIT_BEGUN not in by_part:
            return DocumentDamaged(f"{stored[0].name} belongs to no entry of the audit trail")
        begun = _part(services, audit, by_part[names.AUDIT_BEGUN], Begun)
        ended = by_part.get(names.AUDIT_ENDED)
        return Entry(begun, _part(services, audit, ended, Ended) if ended else None)
    except DocumentDamaged as error:
        return error
    except ObjectNotFound:
        return None  # it has expired since it was listed


def _part(services: Services, audit: str, stored: StoredObject, model: type[D]) -> D:
    document = documents.read_stored(services.archive, stored, model, most=MOST_BYTES)
    if document.id != audit:
        raise DocumentDamaged(f"{stored.name} is damaged: it is of entry {document.id!r}")
    if isinstance(document, Begun) and len(document.subject.sessions) > MOST_SESSIONS:
        raise DocumentDamaged(f"{stored.name} is damaged: it names more than {MOST_SESSIONS:,} sessions")
    return document
