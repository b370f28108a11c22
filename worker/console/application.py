"""The application: routes, who may use each, and what people see of an error."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from torpor.history.protocol import InvalidArgument, SessionNotFound, TorporError, TransientError
from torpor.worker.console import forms
from torpor.worker.console.background import Background
from torpor.worker.console.copies import Copies
from torpor.worker.console.defence import Defence
from torpor.worker.console.pages import Page, all_pages
from torpor.worker.console.rendering import render
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.console.sign_in import SignIn
from torpor.worker.console.visit import Visit
from torpor.worker.deployment.services import Services
from torpor.worker.errors import HoldNotFound, JobNotFound, OwnerNotFound, PurgeNotFound

log = logging.getLogger("torpor.console")

_STATIC = Path(__file__).with_name("static")
# A person signs in again after so long.
_COOKIE_SECONDS = 8 * 3_600
_MOST_FIELDS = 32
# The first class that matches the error decides.
_STATUSES: list[tuple[type[TorporError], int]] = [
    (InvalidArgument, 400),
    (SessionNotFound, 404),
    (HoldNotFound, 404),
    (JobNotFound, 404),
    (OwnerNotFound, 404),
    (PurgeNotFound, 404),
    (TransientError, 503),
    (TorporError, 409),
]


def application(services: Services, settings: ConsoleSettings, sign_in: SignIn) -> Starlette:
    """The console of a deployment, as an ASGI application."""
    secure = bool(settings.url and settings.url.startswith("https"))
    secret = settings.secret.get_secret_value() if settings.secret else secrets.token_urlsafe(32)
    cookies = Middleware(
        SessionMiddleware,
        secret_key=secret,
        session_cookie="__Host-torpor" if secure else "torpor",
        max_age=_COOKIE_SECONDS,
        same_site="lax",
        https_only=secure,
    )
    application = Starlette(
        lifespan=_lifespan,
        routes=[
            *(_route(page, services, settings, sign_in) for page in all_pages()),
            *sign_in.routes,
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Defence, hosts=settings.hosts), cookies],
        exception_handlers={HTTPException: _http_error, TorporError: _error, forms.Forged: _forged},
    )
    application.state.background = Background()
    application.state.copies = Copies(application.state.background)
    return application


@asynccontextmanager
async def _lifespan(application: Starlette) -> AsyncIterator[None]:
    yield
    await run_in_threadpool(application.state.background.end)
    application.state.copies.close()


def _route(page: Page, services: Services, settings: ConsoleSettings, sign_in: SignIn) -> Route:
    """The route of a page: nobody gets to the page's function without its permission."""

    async def endpoint(request: Request) -> Response:
        person = await run_in_threadpool(sign_in.person, request)
        if person is None:
            return await sign_in.challenge(request)
        request.state.person = person
        form = await _form(request) if page.acts else {}
        if not person.may(page.permission):
            return render(request, "refused.html", status=403, permission=page.permission)
        return await run_in_threadpool(page.answer, Visit(services, settings, person, request, form))

    return Route(page.path, endpoint, methods=[page.method])


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form of this console; raises Forged."""
    async with request.form(max_files=0, max_fields=_MOST_FIELDS) as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    forms.check(request, fields)
    return fields


async def _error(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    return render(request, "error.html", status=status, message=str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return render(request, "error.html", status=error.status_code, message=error.detail)


async def _forged(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    return render(request, "error.html", status=403, message="This form is no longer valid. Open the page again.")
