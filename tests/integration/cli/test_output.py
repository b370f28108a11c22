"""What every command prints: whole ids on each terminal and in a pipe, and numbers as numbers for programs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.command import Torpor, names_of_commands
from support.foreign import LAYOUTS
from support.keyspace import raw
from support.waiting import scaled
from torpor import MemorystoreChatMessageHistory
from torpor.history.scripts import script
from torpor.worker.bulk.adopting import Arguments
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.jobs import look
from torpor.worker.jobs.job import Job
from torpor.worker.sleep.attempt import archive_session

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("archive_url", ["folder"], indirect=True)]

OWNER = "customer " + "o" * 90
AWAKE, ASLEEP, PURGED, BAD, FOREIGN = (f"{name} " + name[0] * 90 for name in ("live", "asleep", "x", "bad", "foreign"))
TEXT = "a long sentence in words " * 8 + "and its end"
REQUESTER = "the data protection officer " + "d" * 90
DONE, OPEN, ORDERED = (f"20260101T120000Z-0000000{last}" for last in "abc")

# For people: the arguments of a call, and what it must print as a whole.
TOLD: list[tuple[list[str], list[str]]] = [
    (["deployment"], ["torpor", "archive", "agree"]),
    (["sessions"], [AWAKE, BAD, OWNER]),
    (["show", AWAKE], [TEXT, f'-> sky({{"at": "{TEXT}"}})']),
    (["purge", "--owner", OWNER, "--dry-run"], [AWAKE, ASLEEP]),
    (["purge-status"], [OPEN, OWNER, REQUESTER]),
    (["purge-status", DONE], [DONE, PURGED, REQUESTER]),
    (["receipts"], [DONE, PURGED, REQUESTER]),
    (["receipts", DONE], [DONE, PURGED, REQUESTER]),
    (["jobs"], [ORDERED, "adopt", "queued"]),
    (["jobs", ORDERED], [FOREIGN, "queued"]),
    (["events"], [PURGED, ASLEEP, OWNER]),
    (["sweep", "--once"], [OPEN]),
    (["quarantine"], [BAD, f"the metadata of session {BAD!r} was lost"]),
    (["doctor"], [BAD]),
    (["requeue", BAD], [BAD]),
    (["export", AWAKE], [AWAKE, TEXT]),
    (["archive", "none" + AWAKE], ["none" + AWAKE]),
    (["restore", "none" + AWAKE], ["none" + AWAKE]),
    (["unhold", "--owner", OWNER], [OWNER]),
    (["holds"], [ASLEEP, "session"]),
    (["audit"], [ASLEEP, DONE, "hold", "purge"]),
    (["bucket"], ["archive"]),
    (["status"], ["archive"]),
    (["top", "--once"], ["live in Redis", "oldest waiting", "noeviction"]),
    (["compress"], ["messages of", "all messages took"]),
    (["adopt", "--match", "*", "--format", "community"], ["adopted"]),
    (["import", "{file}"], ["imported"]),
    (["hold", "--session", AWAKE, "--reason", "r"], ["held"]),
    (["assign-owner", "--match", AWAKE, "--owner", OWNER, "--dry-run"], ["assign"]),
    (["separate", ASLEEP], [ASLEEP]),
    (["scripts"], ["append", script("append").sha]),
    (["sql", "duckdb"], ["archive", "torpor_messages"]),
]
# For programs: a call of each command that takes --json.
FOR_PROGRAMS = [
    ["status"],
    ["top"],
    ["deployment"],
    ["sessions"],
    ["show", AWAKE],
    ["archive", AWAKE],
    ["restore", ASLEEP],
    ["purge", "--owner", OWNER, "--dry-run"],
    ["purge", "--session", AWAKE, "--yes"],
    ["purge-status"],
    ["purge-status", DONE],
    ["receipts"],
    ["receipts", DONE],
    ["jobs"],
    ["jobs", ORDERED],
    ["hold", "--session", AWAKE, "--reason", "r"],
    ["unhold", "--session", ASLEEP],
    ["holds"],
    ["audit"],
    ["bucket"],
    ["events"],
    ["sweep", "--once"],
    ["sweep", "--dry-run"],
    ["quarantine"],
    ["doctor"],
    ["requeue", BAD],
    ["export", AWAKE, "--to", "langchain-js"],
    ["import", "{file}", "--dry-run"],
    ["compress", "--dry-run"],
    ["adopt", "--match", "*", "--format", "memorystore", "--dry-run"],
    ["assign-owner", "--match", AWAKE, "--owner", OWNER, "--dry-run"],
    ["separate", ASLEEP],
    ["scripts", "append"],
]
# Commands that print no results of their own, or take no --json.
NOT_FOR_PROGRAMS = {"demo", "worker", "beat", "serve-metrics", "console", "sql"}


@pytest.fixture(autouse=True)
def deployment(client: redis.Redis, services: Services, torpor: Torpor, tmp_path: Path) -> None:
    """Sessions in every state, with long ids; a finished purge, and one that nobody carries out."""
    turn = [HumanMessage(TEXT), AIMessage("", tool_calls=[{"name": "sky", "args": {"at": TEXT}, "id": "call-1"}])]
    for session_id in (AWAKE, ASLEEP, PURGED, BAD):
        MemorystoreChatMessageHistory(client, session_id, 3600, owner=OWNER).add_messages(turn)
    for session_id in (ASLEEP, PURGED):
        archive_session(services, session_id)
    archive_session(services, AWAKE)
    assert torpor("restore", AWAKE).code == torpor("hold", "--session", ASLEEP, "--reason", "r").code == 0
    orders.place(services, Order.of(session=PURGED, requested_by=REQUESTER).model_copy(update={"id": DONE}))
    assert torpor("purge", "--resume", DONE).code == 0
    orders.place(services, Order.of(owner=OWNER, requested_by=REQUESTER).model_copy(update={"id": OPEN}))
    job = Job.of(
        "adopt",
        Arguments(format="memorystore", match=FOREIGN),
        deployment=services.sessions.identity().deployment or "",
    )
    look.place(services, job.model_copy(update={"id": ORDERED}))
    raw(client, "HDEL", services.sessions.deployment.keyspace.of(BAD.encode()).metadata(BAD.encode()), "epoch")
    for _ in range(services.settings.max_attempts):
        archive_session(services, BAD)
    raw(client, "RPUSH", LAYOUTS["memorystore"].key(FOREIGN), '{"type": "human", "data": {"content": "hi"}}')
    (tmp_path / "in.jsonl").write_text('{"session_id": "new", "messages": [{"type": "human", "content": "hi"}]}\n')


def in_terminal(arguments: list[str], variables: dict[str, str]) -> str:
    """What a call prints on a terminal of 80 columns, without colours."""
    terminal, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    environment |= {PREFIX + name: value for name, value in variables.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "torpor", *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    printed = b""
    try:
        while chunk := os.read(terminal, 65_536):
            printed += chunk
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    process.wait(scaled(30))
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed.decode())


@pytest.mark.parametrize(("arguments", "whole"), TOLD, ids=lambda each: each[0][:12])
def test_what_people_need_is_whole_in_a_pipe_and_on_a_narrow_terminal(
    torpor: Torpor, variables: dict[str, str], tmp_path: Path, arguments: list[str], whole: list[str]
) -> None:
    call = [each.format(file=tmp_path / "in.jsonl") if "{file}" in each else each for each in arguments]
    shown = in_terminal(call, variables)
    result = torpor(*call)
    for printed in (shown, result.out + result.err):
        assert "Traceback" not in printed
        for text in whole:
            assert text in printed, (call, printed)


def test_an_export_is_escaped_on_a_terminal_and_exact_in_a_file(
    client: redis.Redis, torpor: Torpor, variables: dict[str, str]
) -> None:
    said = "\x9b31m \u202e backwards"
    MemorystoreChatMessageHistory(client, "harm").add_message(HumanMessage(said))
    shown = in_terminal(["export", "harm"], variables)
    assert not {"\x9b", "\u202e"} & set(shown)
    assert json.loads(shown)["messages"][0]["data"]["content"] == said
    assert said in torpor("export", "harm").out


@pytest.mark.parametrize("arguments", FOR_PROGRAMS, ids=lambda call: call[0])
def test_numbers_are_numbers_for_programs(torpor: Torpor, tmp_path: Path, arguments: list[str]) -> None:
    call = [each.format(file=tmp_path / "in.jsonl") if "{file}" in each else each for each in arguments]
    result = torpor(*call, "--json")
    assert result.lines, result
    assert not [*numbers_as_text(result.lines)]


def test_no_command_is_forgotten_here() -> None:
    assert {call[0] for call in FOR_PROGRAMS} == names_of_commands() - NOT_FOR_PROGRAMS
    assert {call[0] for call, _ in TOLD} == names_of_commands() - {"demo", "worker", "beat", "serve-metrics", "console"}


def numbers_as_text(value: Any) -> Iterator[str]:
    match value:
        case str() if re.fullmatch(r"[-+]?\d+(\.\d+)?", value):
            yield value
        case dict():
            for name, each in value.items():
                yield from (f"{name}: {found}" for found in numbers_as_text(each))
        case list():
            for each in value:
                yield from numbers_as_text(each)
