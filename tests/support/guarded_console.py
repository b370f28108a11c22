"""The web console, served in this process: over a real port, with its own settings and way to sign in."""

from __future__ import annotations

import json
import re
import socket
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from support.iap import AUDIENCE, IdentityProxy
from support.waiting import wait_until
from torpor.worker.console.roles import Role
from torpor.worker.console.serving.application import application
from torpor.worker.console.serving.process import server
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.console.sign_in import SignIn
from torpor.worker.console.sign_in.iap import IapSignIn
from torpor.worker.deployment.services import Services

SECRET = "of the cookies of the console, 32 characters"
# One person for each role, and the lists that they are in.
PEOPLE = {role: f"{role}@example.com" for role in Role}
LISTS = {f"{role}s": frozenset({address}) for role, address in PEOPLE.items()}
STRANGER = "stranger@elsewhere.example"


@dataclass(frozen=True)
class Served:
    """A console that listens."""

    url: str
    settings: ConsoleSettings
    sign_in: SignIn

    def browser(self, **options: Any) -> httpx.Client:
        """A browser without cookies, which follows no redirect."""
        return httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=60, **options)


@contextmanager
def served(services: Services, way_of: Callable[[ConsoleSettings], SignIn], **settings: Any) -> Iterator[Served]:
    """A console with these settings; `url` is its own unless it is given."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        own = ConsoleSettings(**{"url": url, "port": port, **settings})
        way = way_of(own)
        running = server(application(services, own, way))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            wait_until(lambda: running.started or not thread.is_alive(), what="the console listens")
            yield Served(url, own, way)
        finally:
            running.should_exit = True
            thread.join()


@contextmanager
def served_behind(proxy: IdentityProxy, services: Services, **settings: Any) -> Iterator[Served]:
    """A console behind Identity-Aware Proxy, with a person for each role."""
    given = {"sign_in": "iap", "secret": SECRET, "iap_audience": AUDIENCE, **LISTS, **settings}
    with served(services, lambda own: IapSignIn(own, keys_url=proxy.keys_url), **given) as console:
        yield console


def csrf(browser: httpx.Client) -> str:
    """The token that forms need in this browser, as its cookie has it; "" without a cookie."""
    for cookie in browser.cookies.jar:
        session = json.loads(b64decode((cookie.value or "").partition(".")[0]))
        return str(session.get("csrf", ""))
    return ""


def filled(path: str, values: dict[str, str] | None = None) -> str:
    """The path of a page with values for its parameters; those without one get `none`."""
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: (values or {}).get(match[1], "none"), path)
