"""The console's pages as somebody reads them: their text, tables and links, and pages that come in parts."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from support.consoles import served
from torpor.worker.console.roles import Role
from torpor.worker.deployment.services import Services

READER = "ann@example.com"


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

    @property
    def following(self) -> str:
        """Where the list goes on."""
        [found] = re.findall(r'<a href="([^"]*)" rel="next">', self.source)
        return html.unescape(found)

    @property
    def actions(self) -> list[str]:
        """Where its forms lead."""
        return [html.unescape(each) for each in re.findall(r'action="([^"]*)"', self.source)]

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

    def __init__(self, url: str, name: str) -> None:
        self.http = httpx.Client(
            base_url=url, headers={"test-person": name}, follow_redirects=True, timeout=60, trust_env=False
        )

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
    with served(services, {READER: set(roles) or set(Role)}, **settings) as console:
        opened = Browser(console.url, READER)
        try:
            yield opened
        finally:
            opened.http.close()
