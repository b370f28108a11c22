"""The console as a browser sees it: its process, and signed-in tabs of a real Chromium."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from support.paths import TESTS
from support.waiting import wait_until
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

AXE = TESTS / "browser"
# What the console promises: https://www.w3.org/TR/WCAG22/
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@dataclass(frozen=True)
class Console:
    """A running console over a deployment with a worker. `sign_in` is the address with its token."""

    services: Services
    sign_in: str
    folder: Path

    @property
    def url(self) -> str:
        return self.sign_in.partition("/sign-in")[0]


@dataclass
class Tab:
    """A page of the browser, and what its own console has complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def note(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.complaints.append(said.text)

    def open(self, url: str) -> Page:
        self.page.goto(url, wait_until="load")
        return self.page


@contextmanager
def serving(services: Services, folder: Path) -> Iterator[str]:
    """The address that `torpor console` prints, with its token."""
    printed = folder / "console.log"
    with printed.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "torpor", "console", "--port", "0"],
            env=environment(services.settings),
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: "; Ctrl-C" in printed.read_text() or process.poll() is not None, 30)
        yield printed.read_text().partition(" is at ")[2].partition(";")[0]
        assert process.poll() is None, printed.read_text()
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def tab(browser: Browser, console: Console, **options: Any) -> Iterator[Tab]:
    """A signed-in tab of a new profile. It fails if a page has an error or breaks its own security policy."""
    given = {"viewport": DESKTOP, "storage_state": _signed_in(browser, console), **options}
    context: BrowserContext = browser.new_context(accept_downloads=True, **given)
    try:
        opened = Tab(context.new_page())
        opened.page.on("console", opened.note)
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.open(console.url)
        yield opened
        assert not opened.complaints, opened.complaints
    finally:
        context.close()


def _signed_in(browser: Browser, console: Console) -> Path:
    """The cookies of somebody who has signed in; only a few may do so in a minute."""
    kept = console.folder / "cookies.json"
    if not kept.exists():
        context = browser.new_context()
        context.new_page().goto(console.sign_in)
        context.storage_state(path=kept)
        context.close()
    return kept
