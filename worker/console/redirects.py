"""Redirects: to pages of this console, and to nowhere else."""

from __future__ import annotations

import re

from starlette.responses import RedirectResponse

from torpor.history.protocol import InvalidArgument

# Browsers read // and a backslash at the beginning as another host, and leave out control characters before they read.
_ELSEWHERE = re.compile(r"^(?!/)|^//|[\x00-\x1f\x7f\\\ud800-\udfff]")


def to(path: str) -> RedirectResponse:
    """Send the browser to a page, by GET. Raises InvalidArgument for a path that could lead elsewhere."""
    return RedirectResponse(checked(path), status_code=303)


def checked(path: str) -> str:
    """The same path; raises InvalidArgument if it could lead elsewhere."""
    if _ELSEWHERE.search(path):
        raise InvalidArgument("that is no page of this console")
    return path
