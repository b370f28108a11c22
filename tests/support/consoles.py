"""The console over HTTP: served in a thread for people of given roles, or by the command's own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from support.waiting import scaled, wait_until
from torpor.worker.console.roles import Person, Role
from torpor.worker.console.serving.application import application
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

OFFICER, OPERATOR, VIEWER = "dpo@example.com", "operator@example.com", "viewer@example.com"
PEOPLE = {OFFICER: {Role.OFFICER}, OPERATOR: {Role.OPERATOR}, VIEWER: {Role.VIEWER}}


class Named:
    """Signs in whoever the request names: who somebody is, is for the tests of signing in."""

    routes: Sequence[Route] = ()
    signs_out = False

    def __init__(self, people: Mapping[str, set[Role]]) -> None:
        self._people = people

    def person(self, request: Request) -> Person | None:
        name = request.headers.get("test-person", "")
        return Person(name, frozenset(self._people[name])) if name in self._people else None

    async def challenge(self, request: Request) -> Response:
        return PlainTextResponse("who are you?", 401)


@dataclass
class Form:
    """A form of a page: where it leads, and the fields that it has already."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(given["action"], given.get("method", "get")))
        elif tag == "input" and self.found and given.get("type") == "hidden":
            self.found[-1].fields[given["name"]] = given.get("value", "")


def forms(page: requests.Response) -> list[Form]:
    parser = _Forms()
    parser.feed(page.text)
    return parser.found


def form(page: requests.Response, action: str) -> Form:
    """The only form of a page whose action begins so."""
    [found] = [each for each in forms(page) if each.action.startswith(action)]
    return found


@dataclass
class Visitor:
    """Somebody's browser, without JavaScript."""

    url: str
    http: requests.Session

    def get(self, path: str, *, status: int = 200, **query: str) -> requests.Response:
        found = self.http.get(self.url + path, params=query, timeout=scaled(60))
        assert found.status_code == status, (found.status_code, found.text)
        return found

    def submit(self, page: requests.Response, action: str, *, status: int = 200, **fields: str) -> requests.Response:
        """Fill in a form of a page, send it, and follow where it leads."""
        return self.send(form(page, action), status=status, **fields)

    def send(self, filled: Form, *, status: int = 200, **fields: str) -> requests.Response:
        answer = self.http.post(
            urljoin(self.url, filled.action), data=filled.fields | fields, timeout=scaled(60), allow_redirects=True
        )
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer


@dataclass
class Console:
    """A console that is served, and its address."""

    url: str

    def visitor(self, name: str) -> Visitor:
        http = requests.Session()
        http.headers["test-person"] = name
        return Visitor(self.url, http)


@contextmanager
def served(services: Services, people: Mapping[str, set[Role]] = PEOPLE, **given: float) -> Iterator[Console]:
    """A console in a thread of this process, for these people, with the settings that are given."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        settings = ConsoleSettings(port=bound.getsockname()[1], **given)  # type: ignore[arg-type] # validated
        server = uvicorn.Server(
            uvicorn.Config(application(services, settings, Named(people)), log_level="warning", access_log=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield Console(f"http://127.0.0.1:{settings.port}")
        finally:
            server.should_exit = True
            thread.join(scaled(30))


@dataclass
class Process:
    """The command's process, and the address with the token that it has printed."""

    process: subprocess.Popen[bytes]
    sign_in: str

    def visitor(self) -> Visitor:
        visitor = Visitor(self.sign_in.partition("/sign-in")[0], requests.Session())
        visitor.http.get(self.sign_in, timeout=scaled(30)).raise_for_status()
        return visitor


@contextmanager
def started(services: Services, folder: Path, *before: str, **variables: Any) -> Iterator[Process]:
    """`torpor console` as a process; with `before`, Python runs these arguments in place of `-m torpor`."""
    printed = folder / "console.log"
    with printed.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *(before or ("-m", "torpor")), "console", "--port", "0"],
            env={**os.environ, **environment(services.settings), **variables},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: "; Ctrl-C" in printed.read_text() or process.poll() is not None, 30)
        assert process.poll() is None, printed.read_text()
        yield Process(process, printed.read_text().partition(" is at ")[2].partition(";")[0])
    finally:
        process.terminate()
        process.wait(scaled(30))
