"""Forms: each carries a token that only a page of this console knows, so that no other site can send one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from starlette.requests import Request

FIELD = "csrf"
_MOST_FIELDS = 32
# The only kind that the pages send. A form in several parts (multipart) names the codec of its texts, and some codecs
# take time with the square of the length.
_KIND = "application/x-www-form-urlencoded"


class Forged(Exception):
    """A form that no page of this console has sent."""


def token(request: Request) -> str:
    """The token of this person's forms, which the signed cookie remembers."""
    if FIELD not in request.session:
        request.session[FIELD] = secrets.token_urlsafe(24)
    return str(request.session[FIELD])


async def read(request: Request) -> dict[str, str]:
    """The fields of a form of this console; raises Forged."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _KIND:
        raise Forged
    async with request.form(max_fields=_MOST_FIELDS) as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    _check(request, fields)
    return fields


def _check(request: Request, fields: Mapping[str, str]) -> None:
    """Raise Forged, unless the form has the token and no browser says that it comes from elsewhere."""
    origin = request.headers.get("origin")
    if origin is not None and origin not in request.app.state.origins:
        raise Forged
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forged
    given, known = fields.get(FIELD, ""), request.session.get(FIELD, "")
    if not known or not secrets.compare_digest(given.encode(), str(known).encode()):
        raise Forged
