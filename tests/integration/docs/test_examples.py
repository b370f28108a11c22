"""The examples run as they stand, with models that need no network: each session sleeps between two turns and wakes."""

from __future__ import annotations

import io
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import agents
import pytest
from fastapi.testclient import TestClient

from support.fake_models import AgentParrot, ChatParrot
from support.paths import ROOT
from support.servers import RedisServer
from support.transcripts import read_transcript
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome

EXAMPLES = ROOT / "examples"
SCRIPTS = ["langchain_chat", "langgraph_node", "agents_chat"]

pytestmark = pytest.mark.single_node(reason="the examples open a client of one node")

Run = Callable[..., str]


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.fixture(autouse=True)
def parrots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace models that need a network and a key."""
    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda _: ChatParrot())
    monkeypatch.setattr("agents.models.multi_provider.MultiProvider.get_model", lambda *_: AgentParrot())
    agents.set_tracing_disabled(True)
    yield
    agents.set_tracing_disabled(False)


@pytest.fixture
def run(
    services: Services, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs an example as a person does who types `lines`, and returns what it prints."""

    def script(name: str, *arguments: str, lines: str = "") -> str:
        where = ["--session", "s", "--redis", redis_server.url, "--archive", services.archive.url]
        monkeypatch.setattr(sys, "argv", [name, "parrot:grey", *arguments, *where])
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return script


def sleep(services: Services) -> None:
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED


def test_the_langchain_chat_goes_on_after_its_session_has_slept(run: Run, services: Services) -> None:
    assert run("langchain_chat", lines="one\ntwo\n") == "you: ai: one after 1\nyou: ai: two after 3\nyou: "
    sleep(services)
    assert run("langchain_chat", lines="three\n\nnever\n") == "you: ai: three after 5\nyou: "
    assert len(read_transcript(services, "s")) == 6


@pytest.mark.slow
def test_the_langgraph_approval_is_resumed_by_another_process_after_its_thread_has_slept(
    services: Services, redis_server: RedisServer
) -> None:
    where = ["--thread", "s", "--owner", "ann", "--redis", redis_server.url, "--archive", services.archive.url]

    def process(*arguments: str) -> str:
        command = [sys.executable, str(EXAMPLES / "langgraph_approval.py"), *arguments, *where]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout

    assert process("--refund", "120") == "Refund 120 euros?\n"
    sleep(services)
    assert process("--approve", "yes") == "We refund 120 euros.\n"


def test_the_langgraph_node_goes_on_after_its_session_has_slept(run: Run, services: Services) -> None:
    assert run("langgraph_node", "one") == "one after 0\n"
    sleep(services)
    assert run("langgraph_node", "two") == "two after 2\n"
    assert len(read_transcript(services, "s")) == 4


def test_the_agent_goes_on_after_its_session_has_slept_and_takes_a_turn_back(run: Run, services: Services) -> None:
    assert run("agents_chat", lines="one\ntwo\n") == "you: ai: 1 items\nyou: ai: 3 items\nyou: "
    sleep(services)
    printed = run("agents_chat", lines="three\nundo\nundo\nfour\n")
    assert printed == "you: ai: 5 items\nyou: you: you: ai: 3 items\nyou: "
    said = b"".join(read_transcript(services, "s"))
    assert [word in said for word in (b"one", b"two", b"three", b"four")] == [True, False, False, True]


@pytest.fixture
def service(services: Services, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The FastAPI app, from its start to its end."""
    spec = spec_from_file_location("fastapi_app", EXAMPLES / "fastapi_app.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fastapi_app", module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("MODEL", "parrot:grey")
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.setenv("ARCHIVE_URL", services.archive.url)
    with TestClient(module.app) as client:
        yield client


def test_the_fastapi_app_goes_on_after_its_session_has_slept(service: TestClient, services: Services) -> None:
    def said(text: str) -> Any:
        return service.post("/chat/s", json={"text": text}).json()

    assert said("one") == {"text": "one after 0", "by": "ai"}
    assert service.post("/chat/s/close").json() is True
    sleep(services)
    assert service.post("/chat/s/close").json() is False
    assert said("two") == {"text": "two after 2", "by": "ai"}
    sleep(services)
    transcript = service.get("/chat/s").json()
    assert [each["by"] for each in transcript] == ["human", "ai"] * 2
    assert transcript[0]["text"] == "one"
    assert service.delete("/chat/s").status_code == 204
    assert service.get("/chat/s").json() == []


def test_the_fastapi_app_tells_what_is_wrong_with_a_request(service: TestClient, services: Services) -> None:
    assert service.get(f"/chat/{'x' * 2_000}").status_code == 422
    service.post("/chat/s", json={"text": "one"})
    services.sessions.hold("s", "a dispute")
    held = service.delete("/chat/s")
    assert (held.status_code, "a dispute" in held.json()["detail"]) == (409, True)
    assert len(service.get("/chat/s").json()) == 2


def test_every_example_is_in_the_table_and_run_here() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {*SCRIPTS, "fastapi_app", "langgraph_approval"}
    for name in names:
        assert f"[{name}.py]({name}.py)" in table
