"""Failures: what people see of an error, and what the log has of one that nobody expected: no text."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from torpor.history.protocol import InvalidArgument, SessionNotFound, TorporError, TransientError
from torpor.worker.console.admission import Crowded
from torpor.worker.console.error_places import place_of
from torpor.worker.console.forms import Forged
from torpor.worker.console.rendering import render
from torpor.worker.errors import HoldNotFound, JobNotFound, OwnerNotFound, PurgeNotFound

log = logging.getLogger("torpor.console")

# The first class that matches the error decides.
_STATUSES: list[tuple[type[TorporError], int]] = [
    (InvalidArgument, 400),
    (SessionNotFound, 404),
    (PurgeNotFound, 404),
    (JobNotFound, 404),
    (HoldNotFound, 404),
    (OwnerNotFound, 404),
    (TransientError, 503),
    (TorporError, 409),
]


class Failures:
    """Answers a request that fails in a way that nobody expected, or that the end of the process cuts off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        values: dict[str, Any] = {}
        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:  # the server ends, and waits no longer
            values = {"template": "error.html", "status": 503, "message": "the console ends"}
        except Exception as error:
            number = secrets.token_hex(4)
            log.error("request %s failed: %s", number, place_of(error))
            values = {"template": "failed.html", "status": 500, "number": number}
        if values and begun:
            raise ConnectionAbortedError  # the reply is incomplete
        if values:
            await render(Request(scope), **values)(scope, receive, send)


async def _known(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    return render(request, "error.html", status=status, message=str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = render(request, "error.html", status=error.status_code, message=error.detail)
    response.headers.update(error.headers or {})
    return response


async def _forged(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    log.warning("a form was refused that no page of this console had sent to this browser")
    return render(request, "error.html", status=403, message="This form is no longer valid. Open the page again.")


async def _crowded(request: Request, error: Exception) -> Response:
    assert isinstance(error, Crowded)
    response = render(request, "crowded.html", status=429, seconds=error.retry_seconds)
    response.headers["Retry-After"] = str(error.retry_seconds)
    return response


HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {
    HTTPException: _http_error,
    TorporError: _known,
    Forged: _forged,
    Crowded: _crowded,
}
