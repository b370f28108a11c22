"""A program of a user is checked by mypy --strict against the installed wheel, which carries its types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.environments import Environment
from support.waiting import scaled

PROGRAM = """
from datetime import timedelta
from typing import assert_type

from langchain_core.messages import BaseMessage
from torpor import MemorystoreChatMessageHistory, SessionArchive, SessionInfo, SessionNotFound, connect

client = connect("redis://localhost:6379/0")
chat = MemorystoreChatMessageHistory(client, "user-42", ttl=3600, archive=SessionArchive("file:///archive"))
assert_type(chat.messages, list[BaseMessage])
assert_type(chat.info(), SessionInfo | None)
try:
    if info := chat.info():
        assert_type(info.idle_timeout, timedelta)
except SessionNotFound as error:
    print(error)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "Success: no issues found"),
        ("chat.close('now')", "Too many arguments"),
        ("from torpor import Nothing", 'has no attribute "Nothing"'),
    ],
    ids=["right", "wrong argument", "wrong name"],
)
def test_mypy_knows_the_types_of_the_installed_package(
    installed: Environment, tmp_path_factory: pytest.TempPathFactory, users: Path, line: str, said: str
) -> None:
    program = users / "program.py"
    program.write_text(PROGRAM + line + "\n")
    cache = tmp_path_factory.getbasetemp() / "mypy"
    options = ["--strict", "--config-file", "", "--python-executable", str(installed.python), "--cache-dir", str(cache)]
    command = [sys.executable, "-m", "mypy", *options, program.name]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=users, timeout=scaled(250))
    assert said in done.stdout, done.stdout + done.stderr
    assert (done.returncode == 0) is (not line)
