"""Ctrl-C: every command ends with one line and exit code 130, wherever it is, and can be run again."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from langchain_core.messages import HumanMessage

from support.command import Torpor, names_of_commands
from support.ports import free_port
from support.waiting import scaled
from torpor import MemorystoreChatMessageHistory
from torpor.worker import failpoints
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import preview
from torpor.worker.failpoints import Failpoint

pytestmark = pytest.mark.slow

PURGE = "20260101T120000Z-0000000a"
CALLS = [
    ["status"],
    ["top"],
    ["deployment"],
    ["deployment", "recover", "--yes"],
    ["sessions"],
    ["show", "s"],
    ["archive", "s"],
    ["sweep"],
    ["restore", "s"],
    ["purge", "--owner", "ann", "--yes"],
    ["purge", "--resume", PURGE],
    ["purge-status"],
    ["receipts"],
    ["jobs"],
    ["jobs", "--resume", PURGE],
    ["hold", "--owner", "ann", "--reason", "r"],
    ["unhold", "--owner", "ann"],
    ["holds"],
    ["audit"],
    ["bucket"],
    ["events", "--follow"],
    ["quarantine"],
    ["requeue", "--all"],
    ["doctor"],
    ["import", "{file}"],
    ["export", "--all"],
    ["assign-owner", "--match", "*", "--owner", "ann", "--yes"],
    ["compress"],
    ["adopt", "--match", "*", "--format", "memorystore"],
    ["separate", "s"],
    ["serve-metrics", "--port", "{port}"],
    ["console", "--port", "{port}"],
    ["demo", "--redis-url", "{redis}", "--archive-url", "gs://bucket/chats"],
]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(scaled(30))
        yield server


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process has printed; one that does not end is killed, and the failure says where it was."""
    try:
        return process.communicate(timeout=scaled(30))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail("\n".join(process.communicate()))


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_ctrl_c_ends_a_command_that_waits_with_one_line(
    silent: socket.socket, tmp_path: Path, arguments: list[str]
) -> None:
    place = f"127.0.0.1:{silent.getsockname()[1]}"
    file = tmp_path / "in.jsonl"
    file.write_text('{"session_id": "new", "messages": [{"type": "human", "content": "hi"}]}\n')
    port = free_port()
    given = [each.format(file=file, redis=f"redis://{place}/0", port=port) for each in arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", "torpor", *given],
        env=os.environ
        | {
            f"{PREFIX}REDIS_URL": f"redis://{place}/0",
            f"{PREFIX}ARCHIVE_URL": "gs://bucket/chats",
            "STORAGE_EMULATOR_HOST": f"http://{place}",
            "PYTHONFAULTHANDLER": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    connection, _ = silent.accept()
    with connection:
        process.send_signal(signal.SIGINT)
        out, err = ended(process)
    told = [line for line in err.splitlines() if "--resume" not in line and "--cancel" not in line]
    assert (process.returncode, out, told[-1:]) == (130, "", ["torpor: interrupted"])
    assert "Traceback" not in err


PRESSED_IN_A_CALLBACK = """
import os, signal, sys, time, weakref
from torpor.worker import cli
from torpor.worker.cli import commands

class Thing:
    pass

def wait() -> None:
    thing = Thing()
    kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del thing
    time.sleep(60)

commands.app = wait
cli.main()
"""


def test_ctrl_c_ends_a_command_also_if_python_is_in_a_callback_that_ignores_exceptions() -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", PRESSED_IN_A_CALLBACK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended(process) == ("", "torpor: interrupted\n")
    assert process.returncode == 130


def test_no_command_is_forgotten_here() -> None:
    assert {call[0] for call in CALLS} == names_of_commands() - {"worker", "beat", "sql", "scripts"}, (
        "Celery takes the place of the first two, and the others wait for nothing"
    )


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_ctrl_c_at_the_question_purges_nothing(
    client: redis.Redis, services: Services, variables: dict[str, str]
) -> None:
    MemorystoreChatMessageHistory(client, "s").add_messages([HumanMessage("hi")])
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "torpor", "purge", "--session", "s"],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {PREFIX + name: value for name, value in variables.items()},
    )
    assert process.stderr
    asked = b""
    while not asked.endswith(b"[y/N]:"):
        read = process.stderr.read(1)
        assert read, asked
        asked += read
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=scaled(30))
    os.close(terminal)
    os.close(slave)
    assert (process.returncode, err) == (130, b"torpor: interrupted\n")
    assert services.sessions.info("s")


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_an_interrupted_purge_says_how_it_goes_on(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    MemorystoreChatMessageHistory(client, "s").add_messages([HumanMessage("hi")])

    def press(reached: Failpoint) -> None:
        if reached is Failpoint.PURGE_LISTED:
            signal.raise_signal(signal.SIGINT)

    failpoints.arm(press)
    interrupted = torpor("purge", "--session", "s", "--yes")
    failpoints.arm()
    assert (interrupted.code, interrupted.out) == (130, "")
    told, last = interrupted.err.splitlines()
    assert last == "torpor: interrupted"
    assert torpor("purge", "--resume", told.split()[-1]).out.startswith("complete: 1 sessions")
    assert not [*preview(services, Order.of(session="s"))]
