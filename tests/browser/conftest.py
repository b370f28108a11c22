"""A whole deployment with its console, and a real Chromium that opens it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from support.browsing import AXE, Console, Tab, serving, tab
from support.compose import deployment_of, image
from support.emulator import new_bucket
from support.servers import RedisServer, missing, start_redis
from support.shown import Shown, fill
from torpor.worker.deployment.services import Services


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="Write the pictures of the main pages into this folder.")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    running = start_redis(tmp_path_factory.mktemp("browser-redis"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def deployment(server: RedisServer, emulator: str) -> Services:
    """A deployment whose sessions are due after an hour, so only what a test asks for sleeps."""
    url = f"gs://{new_bucket(emulator)}/chats"
    return deployment_of(server, url, idle_timeout_seconds=3_600, sweep_interval_seconds=1, lease_seconds=10)


@pytest.fixture(scope="session")
def shown(deployment: Services) -> Shown:
    return fill(deployment)


@pytest.fixture(scope="session")
def console(deployment: Services, shown: Shown, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The console, with a worker and beat."""
    folder = tmp_path_factory.mktemp("console")
    with ExitStack() as running:
        running.enter_context(image("worker", deployment, folder, "--concurrency", "2"))
        running.enter_context(image("beat", deployment, folder))
        yield Console(deployment, running.enter_context(serving(deployment, folder)), folder)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium."""
    binary = shutil.which("chromium") or shutil.which("google-chrome") or missing("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's program."""
    npm = shutil.which("npm") or missing("npm")
    folder = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(AXE / name, folder)
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"], cwd=folder, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture
def opened(chromium: Browser, console: Console) -> Iterator[Tab]:
    with tab(chromium, console) as signed_in:
        yield signed_in
