"""The pages of the console, in one table: their paths, their functions, and the permission that each one needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from torpor.worker.audit.act import LOOKS, Act, NoEntry
from torpor.worker.console.pages import (
    audit,
    bucket,
    copying,
    doctor,
    erase,
    holds,
    jobs,
    overview,
    person,
    purges,
    quarantine,
    session,
    session_acts,
    sessions,
    transcript,
)
from torpor.worker.console.roles import Permission
from torpor.worker.console.visit import Visit


@dataclass(frozen=True, slots=True)
class Page:
    """A page, which changes nothing, or with `acts` a form, which comes by POST.

    `entry` is the act that the audit trail gets. A page that `walks` looks at many sessions; each person may have few
    of these at a time (`admission.py`).
    """

    path: str
    answer: Callable[[Visit], Response]
    permission: Permission
    entry: Act | NoEntry
    acts: bool = False
    walks: bool = False

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "POST" if self.acts else "GET"


_REMEMBERS = NoEntry("It keeps a reason in the browser's cookie, for the entry of the page that follows.")
_STOPS = NoEntry("It ends a search of one's own.")
_COPIED = NoEntry("Only who has asked for the copy gets it, and the copy has an entry.")
_DELETES = NoEntry("It deletes a file of the console's own; the copy has an entry.")

PAGES: Sequence[Page] = (
    Page("/", overview.show, Permission.VIEW, LOOKS),
    Page("/samples", overview.samples, Permission.VIEW, LOOKS),
    Page("/figures", overview.figures, Permission.VIEW, LOOKS),
    Page("/sessions", sessions.show, Permission.VIEW, LOOKS),
    Page("/session", session.show, Permission.VIEW, LOOKS),
    Page("/session/transcript", transcript.show, Permission.READ, Act.SHOW),
    Page("/session/transcript/reason", transcript.why, Permission.READ, _REMEMBERS, acts=True),
    Page("/session/sleep", session_acts.sleep, Permission.REPAIR, Act.ARCHIVE, acts=True),
    Page("/session/wake", session_acts.wake, Permission.REPAIR, Act.RESTORE, acts=True),
    Page("/session/requeue", session_acts.requeue, Permission.REPAIR, Act.REQUEUE, acts=True),
    Page("/sessions/stop", sessions.stop, Permission.VIEW, _STOPS, acts=True),
    Page("/person", person.show, Permission.VIEW, LOOKS),
    Page("/holds", holds.every, Permission.VIEW, LOOKS, walks=True),
    Page("/hold", holds.one, Permission.VIEW, LOOKS),
    Page("/hold/set", holds.put, Permission.HOLD, Act.HOLD, acts=True),
    Page("/hold/release", holds.release, Permission.HOLD, Act.UNHOLD, acts=True),
    Page("/copy", copying.one, Permission.ERASE, LOOKS),
    Page("/copy/begin", copying.begin, Permission.ERASE, Act.EXPORT, acts=True),
    Page("/copy/file", copying.download, Permission.ERASE, _COPIED),
    Page("/copy/delete", copying.delete, Permission.ERASE, _DELETES, acts=True),
    Page("/erase", erase.show, Permission.ERASE, LOOKS, walks=True),
    Page("/erase/order", erase.place, Permission.ERASE, Act.PURGE, acts=True),
    Page("/purges", purges.every, Permission.VIEW, LOOKS),
    Page("/purge", purges.one, Permission.VIEW, LOOKS),
    Page("/purge/receipt", purges.download_receipt, Permission.VIEW, LOOKS),
    Page("/purge/inventory", purges.download_inventory, Permission.VIEW, LOOKS),
    Page("/purge/resume", purges.resume, Permission.ERASE, Act.PURGE, acts=True),
    Page("/audit", audit.every, Permission.VIEW, LOOKS, walks=True),
    Page("/quarantine", quarantine.every, Permission.VIEW, LOOKS),
    Page("/quarantine/requeue", quarantine.requeue, Permission.REPAIR, Act.REQUEUE, acts=True),
    Page("/quarantine/requeue-all", quarantine.requeue_all, Permission.REPAIR, Act.REQUEUE, acts=True),
    Page("/bucket", bucket.show, Permission.VIEW, LOOKS),
    Page("/doctor", doctor.show, Permission.VIEW, LOOKS),
    Page("/doctor/examine", doctor.examine, Permission.REPAIR, Act.EXAMINE, acts=True),
    Page("/jobs", jobs.every, Permission.VIEW, LOOKS),
    Page("/job", jobs.one, Permission.VIEW, LOOKS),
    Page("/job/cancel", jobs.cancel, Permission.REPAIR, Act.CANCEL_JOB, acts=True),
    Page("/job/resume", jobs.resume, Permission.REPAIR, Act.RESUME_JOB, acts=True),
)
