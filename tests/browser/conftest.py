"""A whole deployment with its console, and a real Chromium that opens it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from playwright.sync_api import Browser, sync_playwright

from support.browsing import AXE, Console, Tab, serving, tab
from support.compose import deployment_of, image
from support.emulator import new_bucket
from support.servers import RedisServer, missing, start_redis
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.services import Services


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="Write the pictures of the main pages into this folder.")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    running = start_redis(tmp_path_factory.mktemp("browser-redis"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def deployment(server: RedisServer, emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A deployment with a worker and beat. Its sessions sleep after an hour, so only what a test asks for sleeps."""
    folder = tmp_path_factory.mktemp("worker")
    url = f"gs://{new_bucket(emulator)}/chats"
    services = deployment_of(server, url, idle_timeout_seconds=3_600, sweep_interval_seconds=1, lease_seconds=10)
    with ExitStack() as running:
        with server.client() as client:
            call = {"name": "refund", "args": {"euros": 5}, "id": "call-1"}
            said = [HumanMessage("I want my money back"), AIMessage("", tool_calls=[call])]
            MemorystoreChatMessageHistory(client, "axe", 3_600, owner="ann").add_messages(said)
        running.enter_context(image("worker", services, folder, "--concurrency", "2"))
        running.enter_context(image("beat", services, folder))
        yield services


@pytest.fixture(scope="session")
def console(deployment: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    with serving(deployment, folder) as sign_in:
        yield Console(deployment, sign_in, folder)


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
