"""The pages of the console, in one table: their paths, their functions, and the permission that each one needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response

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

    A page that `walks` looks at many sessions; each person may have few of these at a time (`admission.py`).
    """

    path: str
    answer: Callable[[Visit], Response]
    permission: Permission
    acts: bool = False
    walks: bool = False

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "POST" if self.acts else "GET"


PAGES: Sequence[Page] = (
    Page("/", overview.show, Permission.VIEW),
    Page("/samples", overview.samples, Permission.VIEW),
    Page("/figures", overview.figures, Permission.VIEW),
    Page("/sessions", sessions.show, Permission.VIEW),
    Page("/session", session.show, Permission.VIEW),
    Page("/session/transcript", transcript.show, Permission.READ),
    Page("/session/transcript/reason", transcript.why, Permission.READ, acts=True),
    Page("/session/sleep", session_acts.sleep, Permission.REPAIR, acts=True),
    Page("/session/wake", session_acts.wake, Permission.REPAIR, acts=True),
    Page("/session/requeue", session_acts.requeue, Permission.REPAIR, acts=True),
    Page("/sessions/stop", sessions.stop, Permission.VIEW, acts=True),
    Page("/person", person.show, Permission.VIEW),
    Page("/holds", holds.every, Permission.VIEW, walks=True),
    Page("/hold", holds.one, Permission.VIEW),
    Page("/hold/set", holds.put, Permission.HOLD, acts=True),
    Page("/hold/release", holds.release, Permission.HOLD, acts=True),
    Page("/copy", copying.one, Permission.ERASE),
    Page("/copy/begin", copying.begin, Permission.ERASE, acts=True),
    Page("/copy/file", copying.download, Permission.ERASE),
    Page("/copy/delete", copying.delete, Permission.ERASE, acts=True),
    Page("/erase", erase.show, Permission.ERASE, walks=True),
    Page("/erase/order", erase.place, Permission.ERASE, acts=True),
    Page("/purges", purges.every, Permission.VIEW),
    Page("/purge", purges.one, Permission.VIEW),
    Page("/purge/receipt", purges.download_receipt, Permission.VIEW),
    Page("/purge/inventory", purges.download_inventory, Permission.VIEW),
    Page("/purge/resume", purges.resume, Permission.ERASE, acts=True),
    Page("/audit", audit.every, Permission.VIEW, walks=True),
    Page("/quarantine", quarantine.every, Permission.VIEW),
    Page("/quarantine/requeue", quarantine.requeue, Permission.REPAIR, acts=True),
    Page("/quarantine/requeue-all", quarantine.requeue_all, Permission.REPAIR, acts=True),
    Page("/bucket", bucket.show, Permission.VIEW),
    Page("/doctor", doctor.show, Permission.VIEW),
    Page("/doctor/examine", doctor.examine, Permission.REPAIR, acts=True),
    Page("/jobs", jobs.every, Permission.VIEW),
    Page("/job", jobs.one, Permission.VIEW),
    Page("/job/cancel", jobs.cancel, Permission.REPAIR, acts=True),
    Page("/job/resume", jobs.resume, Permission.REPAIR, acts=True),
)
