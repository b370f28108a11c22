"""Visit: a request to a page by a person who may make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from torpor.history.protocol import InvalidArgument
from torpor.worker.audit.entry import Act, Subject
from torpor.worker.audit.trail import Count, Who, recorded
from torpor.worker.console import redirects
from torpor.worker.console.rendering import render
from torpor.worker.console.roles import Person
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.deployment.services import Services


@dataclass(frozen=True, slots=True)
class Visit:
    """What a page gets: the deployment, who asks, the form, and the warnings that the page must show."""

    services: Services
    settings: ConsoleSettings
    person: Person
    request: Request
    form: Mapping[str, str]
    warnings: list[str] = field(default_factory=list)

    def given(self, name: str, default: str | None = None) -> str:
        """A value of the form, or of the query; raises InvalidArgument if it is missing and has no default."""
        value = self.form.get(name, self.request.query_params.get(name, default))
        if value is None:
            raise InvalidArgument(f"the request lacks {name}")
        return value

    def audited(
        self,
        act: Act,
        *,
        sessions: Sequence[str] = (),
        owner: str | None = None,
        purge: str | None = None,
    ) -> AbstractContextManager[Count]:
        """Record in the audit trail what the body does, by this person, for the reason of the form."""
        subject = Subject(sessions=list(sessions), owner=owner, purge=purge)
        who = Who(self.person.name, self.given("reason", "the console"))
        return recorded(self.services, act, subject, who, self.warnings.append)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page from a template."""
        return render(self.request, template, status=status, warned=self.warnings, **values)

    def go_to(self, path: str) -> Response:
        """Send the browser to a page, after an act. Raises InvalidArgument for a path that could lead elsewhere."""
        return redirects.to(path)
