"""The memory that one command or job adds to a process of its own, whatever it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

# The process does a small job of the same kind first, so that its imports and buffers do not count.
_PROCESS = """
import io, json, os, sys
from torpor.history.protocol import TorporError
from torpor.worker import cli
from torpor.worker.deployment.services import connect
from torpor.worker.deployment.settings import load_settings
from torpor.worker.wake.restore import restore_session

def memory(what):
    [line] = [line for line in open("/proc/self/status") if line.startswith(what)]
    return int(line.split()[1])

def run(arguments, session):
    if arguments[0] == "restore_session":
        return repr(restore_session(services, session))
    sys.argv = ["torpor", *(session if each == "SESSION" else each for each in arguments)]
    try:
        cli.main()
    except SystemExit as end:
        return end.code

services = connect(load_settings())
arguments = sys.argv[1:]
said, out = sys.stderr, os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
run(arguments, "tiny")
idle = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
try:
    result = run(arguments, "hostile")
except TorporError as error:
    result = f"{type(error).__name__}: {error}"
with open(out, "w") as told:
    json.dump({"idle": idle, "peak": memory("VmHWM"), "result": result}, told)
"""


@dataclass(frozen=True)
class Measured:
    """What a process added to its memory at its peak (bytes), how it ended, and what it said."""

    added: int
    result: Any
    said: str


def measured(services: Services, *arguments: str) -> Measured:
    """Run a job, or a command of torpor in which SESSION is the session, on `tiny` and then, measured, on `hostile`."""
    command = [sys.executable, "-c", _PROCESS, *arguments]
    done = subprocess.run(command, env=environment(services.settings), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    told = json.loads(done.stdout)
    return Measured((told["peak"] - told["idle"]) * 1024, told["result"], done.stderr)
