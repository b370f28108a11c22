"""The web console in this process: a real server, on a port of its own, and a browser's requests to it."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from support.ports import free_port
from support.waiting import wait_until
from torpor.worker.console.application import application
from torpor.worker.console.roles import Person, Role
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.deployment.services import Services

ALL_ROLES = frozenset(Role)


class SignedIn:
    """A way to sign in by which everybody is the same person."""

    routes: Sequence[Route] = ()

    def __init__(self, person: Person) -> None:
        self._person = person

    def person(self, request: Request) -> Person | None:
        return self._person

    async def challenge(self, request: Request) -> Response:
        return PlainTextResponse("nobody", 401)


@dataclass(frozen=True)
class Shown:
    """A page: its status, and its text as people see it, on one line."""

    status: int
    source: str

    @property
    def text(self) -> str:
        without = re.sub(r"(?s)<head>.*?</head>|<[^>]*>", " ", self.source)
        return " ".join(html.unescape(without).split())

    @property
    def links(self) -> list[str]:
        return [html.unescape(each) for each in re.findall(r'href="([^"]*)"', self.source)]

    def link(self, text: str) -> str:
        """The target of the first link whose text begins so."""
        found = re.search(rf'<a href="([^"]*)"[^>]*>{re.escape(text)}', self.source)
        assert found, f"{text!r} is no link of {self.text}"
        return html.unescape(found[1])

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the rows in the bodies of its tables, but for the rows of progress."""
        body = re.sub(r'(?s)<thead>.*?</thead>|<tbody class="progress">.*?</tbody>', "", self.source)
        rows = re.findall(r"(?s)<tr>(.*?)</tr>", body)
        return [
            [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in re.split(r"</t[hd]>", row)[:-1]]
            for row in rows
        ]


class Browser:
    """A person's browser, which keeps cookies and follows redirections. It runs no scripts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, follow_redirects=True, timeout=60, trust_env=False)

    def get(self, path: str, **query: str) -> Shown:
        reply = self.http.get(path, params=query or None)
        return Shown(reply.status_code, reply.text)

    def post(self, path: str, fields: Mapping[str, str] | None = None, *, token: str | None = None) -> Shown:
        """Send a form with the token of a page, unless another is given."""
        known = token if token is not None else self.token()
        reply = self.http.post(path, data={**(fields or {}), "csrf": known})
        return Shown(reply.status_code, reply.text)

    def token(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.http.get("/sessions").text)
        assert found
        return found[1]


@contextmanager
def browser(services: Services, *roles: Role, **settings: float) -> Iterator[Browser]:
    """The browser of a person with these roles, all unless any is given, at a console with these settings."""
    port = free_port()
    chosen = ConsoleSettings(port=port, **settings)  # type: ignore[arg-type] # validated
    person = Person("ann@example.com", frozenset(roles) or ALL_ROLES)
    config = uvicorn.Config(
        application(services, chosen, SignedIn(person)),
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="console")
    thread.start()
    found = Browser(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started
        yield found
    finally:
        found.http.close()
        server.should_exit = True
        thread.join()
