"""Visit: a request to a page by a person who may make it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from torpor.history.protocol import InvalidArgument
from torpor.worker.audit.act import Act, NoEntry
from torpor.worker.audit.entry import EVERYTHING, Subject
from torpor.worker.audit.trail import Count, Sides, Who, recorded
from torpor.worker.console import cookie, redirects
from torpor.worker.console.background import Background
from torpor.worker.console.copies import Copies
from torpor.worker.console.rendering import render
from torpor.worker.console.roles import Person
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DocumentDamaged

# The cookie carries these to the next page.
_SAID, _WARNED = "said", "warned"
_MOST_SAID, _MOST_WARNINGS = 300, 2
# As the fields of the pages say, in UTF-16.
_MOST_REASON = 1_000


@dataclass(frozen=True, slots=True)
class Visit:
    """What a page gets: the deployment, who asks, the form, its entry in the audit trail, and warnings to show."""

    services: Services
    settings: ConsoleSettings
    person: Person
    request: Request
    form: Mapping[str, str]
    entry: Act | NoEntry
    warnings: list[str] = field(default_factory=list)

    @property
    def background(self) -> Background:
        """What the process goes on with after the page was sent."""
        background: Background = self.request.app.state.background
        return background

    @property
    def copies(self) -> Copies:
        """The copies that this process has made."""
        copies: Copies = self.request.app.state.copies
        return copies

    def given(self, name: str, default: str | None = None) -> str:
        """A value of the form, or of the query; raises InvalidArgument if it is missing and has no default."""
        value = self.form.get(name, self.request.query_params.get(name, default))
        if value is None:
            raise InvalidArgument(f"the request lacks {name}")
        return value

    def audited(
        self, reason: str, subject: Subject = EVERYTHING, *, sides: Sides = Sides.COMPARED
    ) -> AbstractContextManager[Count]:
        """Record in the audit trail that this person does the act of this page; see `audit.trail.recorded`."""
        assert isinstance(self.entry, Act), "the table of pages says that this page has no entry"
        who = Who(self.person.name, reason)
        return recorded(self.services, self.entry, subject, who, self.warnings.append, sides=sides)

    def reason(self) -> str:
        """The reason of the form; raises InvalidArgument if nothing but blanks was given, or too much."""
        reason = self.given("reason", "").strip()
        if not reason:
            raise InvalidArgument("the reason is missing: say why, without any text of a message")
        if len(reason) > _MOST_REASON:
            raise InvalidArgument(f"the reason is too long: say it in {_MOST_REASON:,} characters")
        return reason

    def optional_reason(self) -> str:
        """The reason of the form, or nothing unless the deployment requires one; raises InvalidArgument."""
        is_needed = self.services.settings.require_reason or self.given("reason", "").strip()
        return self.reason() if is_needed else ""

    def leave_out(self, damaged: DocumentDamaged) -> None:
        """Warn of a document that a list leaves out."""
        self.warnings.append(damaged.left_out)

    def path(self, path: str, **query: str) -> str:
        """A path of the console with a query, as links have it."""
        return f"{path}?{urlencode(query)}" if query else path

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page from a template, with what was said on the way to it."""
        # A part that htmx replaces shows nothing of it: the next whole page does.
        session = {} if "hx-request" in self.request.headers else self.request.session
        said, warned = session.pop(_SAID, []), [*session.pop(_WARNED, []), *self.warnings]
        return render(self.request, template, status=status, said=said, warned=warned, visit=self, **values)

    def go_to(self, path: str, said: str | None = None) -> Response:
        """Send the browser to a page, after an act. That page shows what was `said`, and the warnings.

        Raises InvalidArgument for a path that could lead elsewhere.
        """
        if said is not None:
            self.request.session[_SAID] = [cookie.fitting(said, _MOST_SAID)]
        if self.warnings:
            self.request.session[_WARNED] = [
                cookie.fitting(text, _MOST_SAID) for text in self.warnings[:_MOST_WARNINGS]
            ]
        return redirects.to(path)
