"""The audit trail: what people have done with sessions by the command and the console."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from torpor.history.protocol import InvalidArgument
from torpor.worker.audit import reading
from torpor.worker.audit.act import Act
from torpor.worker.audit.reading import Entry, Wanted
from torpor.worker.console.visit import Visit
from torpor.worker.quantities import moment_of

_PAGE = 50
# A page reads so many entries, whether they match or not.
_READ = 1_000
_FILTERS = ("act", "by", "session", "owner", "purge", "job", "since")
_SINCE = "7d"


@dataclass(frozen=True, slots=True)
class Found:
    """The entries of a page; the list goes on after the one of this id, if it does."""

    entries: list[Entry]
    read: int
    last: str | None


def every(visit: Visit) -> Response:
    """The entries that match, oldest first."""
    given = {name: visit.given(name, "") for name in _FILTERS}
    given["since"] = given["since"] or _SINCE
    found = _find(visit, given, visit.given("after", ""))
    asked = {name: value for name, value in given.items() if value}
    return visit.page(
        "audit.html",
        given=given,
        acts=list(Act),
        found=found,
        first=visit.path("/audit", **asked),
        is_first=not visit.given("after", ""),
        following=visit.path("/audit", after=found.last, **asked) if found.last else None,
    )


def _find(visit: Visit, given: dict[str, str], after: str) -> Found:
    wanted = Wanted(
        by=given["by"] or None,
        act=_act(given["act"]),
        session=given["session"] or None,
        owner=given["owner"] or None,
        purge=given["purge"] or None,
        job=given["job"] or None,
    )
    since = moment_of(given["since"], visit.services.sessions.now)
    entries: list[Entry] = []
    read = 0
    for entry in reading.entries(visit.services, visit.leave_out, since, after):
        read += 1
        if wanted.has(entry):
            entries.append(entry)
        if len(entries) == _PAGE or read == _READ:
            return Found(entries, read, entry.begun.id)
    return Found(entries, read, None)


def _act(name: str) -> Act | None:
    try:
        return Act(name) if name else None
    except ValueError as exc:
        raise InvalidArgument(f"an act is one of {', '.join(Act)}") from exc
