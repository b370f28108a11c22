"""Rendering: templates as pages. Every value is escaped, and a missing one is an error."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from torpor.worker import quantities
from torpor.worker.console import forms, navigation, static_files
from torpor.worker.control_characters import one_line, printable

# Values are escaped, so no value has it.
_SEND = "<!-- send -->"


@cache
def templates() -> Environment:
    """The templates, compiled once."""
    environment = Environment(
        loader=PackageLoader("torpor.worker.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.globals["static"] = static_files.address
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "one_line": one_line,
        "size": quantities.size,
        "span": quantities.span,
        "moment": moment,
        "json_text": lambda value: json.dumps(value, ensure_ascii=True),
    }
    return environment


def moment(at: datetime | None) -> str:
    """A moment for people, in UTC; '-' for none."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "-"


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page. The template sees who is signed in (`person`; None if nobody is), and the token for its forms."""
    return HTMLResponse(templates().get_template(template).render(_seen(request) | values), status)


def render_in_parts(request: Request, template: str, **values: Any) -> Generator[str]:
    """The same page in parts: each ends where the template has the comment that asks to send what is there."""
    pieces = templates().get_template(template).generate(_seen(request) | values)

    def parts() -> Generator[str]:
        part: list[str] = []
        for piece in pieces:
            part.append(piece)
            if _SEND in piece:
                yield "".join(part)
                part.clear()
        yield "".join(part)

    return parts()


def _seen(request: Request) -> dict[str, Any]:
    """What every template sees."""
    person = getattr(request.state, "person", None)
    return {
        "person": person,
        "groups": navigation.groups(person),
        "path": request.url.path,
        "csrf": forms.token(request),
        "signs_out": request.app.state.signs_out,
    }
