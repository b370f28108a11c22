"""The application: routes, and who may use each."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from torpor.worker.console import forms, static_files
from torpor.worker.console.admission import Admission
from torpor.worker.console.background import Background
from torpor.worker.console.copies import Copies
from torpor.worker.console.rendering import render
from torpor.worker.console.roles import Person
from torpor.worker.console.serving.defence import Defence
from torpor.worker.console.serving.failures import HANDLERS, Failures
from torpor.worker.console.serving.page_table import PAGES, Page
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.console.sign_in import SESSION_SECONDS, SignIn
from torpor.worker.console.visit import Visit
from torpor.worker.deployment.services import Services

# Pages that run at a time; the others wait. Each may use a connection to Redis, of which there are 100.
_THREADS = 32
# The name of the person whose session the cookie has.
_WHOSE = "whose"


def application(
    services: Services, settings: ConsoleSettings, sign_in: SignIn, looking: Services | None = None
) -> Starlette:
    """The console of a deployment, as an ASGI application. Pages that change nothing use `looking`, if it is given."""
    guard = _Guard(services, looking or services, settings, sign_in)
    app = Starlette(
        lifespan=_lifespan,
        routes=[
            *(Route(page.path, guard.endpoint(page), methods=[page.method]) for page in PAGES),
            *sign_in.routes,
            Mount("/static", static_files.Files()),
        ],
        middleware=[
            Middleware(Defence, hosts=settings.hosts, is_encrypted=settings.is_encrypted),
            _cookies(settings),
            Middleware(Failures),
        ],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False
    app.state.signs_out = sign_in.signs_out
    app.state.origins = settings.origins
    app.state.background = Background()
    app.state.copies = Copies(app.state.background)
    return app


def _cookies(settings: ConsoleSettings) -> Middleware:
    """One signed cookie, which scripts can't read and other sites can't send with their forms."""
    return Middleware(
        SessionMiddleware,
        secret_key=settings.secret.get_secret_value() if settings.secret else secrets.token_urlsafe(32),
        session_cookie=_cookie_name(settings),
        max_age=SESSION_SECONDS,
        same_site="lax",
        https_only=settings.is_encrypted,
    )


def _cookie_name(settings: ConsoleSettings) -> str:
    """The name of the cookie. Browsers send it to all ports of a host, so each port has a name of its own."""
    port = urlsplit(settings.url).port if settings.url else settings.port
    return "__Host-torpor" if settings.is_encrypted else f"torpor-{port or 80}"


@asynccontextmanager
async def _lifespan(application: Starlette) -> AsyncIterator[None]:
    yield
    await run_in_threadpool(application.state.background.end)
    application.state.copies.close()


class _Guard:
    """Lets nobody get to a page without its permission."""

    def __init__(self, services: Services, looking: Services, settings: ConsoleSettings, sign_in: SignIn) -> None:
        self._services = services
        self._looking = looking
        self._settings = settings
        self._sign_in = sign_in
        self._admission = Admission()
        self._threads = anyio.CapacityLimiter(_THREADS)

    def endpoint(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a page."""
        return partial(self._answer, page)

    async def _answer(self, page: Page, request: Request) -> Response:
        person = await run_in_threadpool(self._sign_in.person, request)
        if person is None:
            response = await self._sign_in.challenge(request)
            response.headers["HX-Refresh"] = "true"  # htmx shows a part of a page, and this is a whole one
            return response
        request.state.person = person
        _keep_apart(request, person)
        form = await forms.read(request) if page.acts else {}
        if not person.may(page.permission):
            values = {"permission": page.permission, "contact": self._settings.contact}
            return render(request, "refused.html", status=403, **values)
        services = self._services if page.acts else self._looking
        visit = Visit(services, self._settings, person, request, form, page.entry)
        async with self._admission.turn(person.name, walks=page.walks):
            # The thread goes on if the process must end: an act is done to its end.
            return await anyio.to_thread.run_sync(page.answer, visit, limiter=self._threads, abandon_on_cancel=True)


def _keep_apart(request: Request, person: Person) -> None:
    """Forget what the browser's session has of another person, such as the token of forms and the reasons given."""
    if request.session.setdefault(_WHOSE, person.name) != person.name:
        request.session.clear()
        request.session[_WHOSE] = person.name
