"""The CPU time of the `torpor` command and of `import torpor`, beside another build and beside bare Python.

    make door ARGS="--beside OTHER/.venv/bin/torpor"

Each command runs alternately in both builds, so that both meet the same load of the machine. The smallest of the times
counts: it has the least of what other processes do to the caches and the clock of the processor.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.ports import free_port
from support.waiting import wait_until

OWN = Path(sys.executable).with_name("torpor")
COMMANDS = (["--help"], ["status"])
# The share of the other build's time that a command may take, with the build of commit e7fdcd4 as the other one.
LIMITS = {"--help": 0.35, "status": 0.6}
IMPORT_SECONDS = 0.05
# PYTHONPATH would make the other build import this one's code, PYTHONDONTWRITEBYTECODE would compile it in each run.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def cpu_seconds(command: Sequence[str | Path], environment: Mapping[str, str]) -> float:
    """User and system time of a process that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def side_by_side(commands: Sequence[Sequence[str | Path]], environment: Mapping[str, str], runs: int) -> list[float]:
    """The smallest CPU time of each command, over `runs` rounds in which each runs once; the bytecode exists."""
    for command in commands:
        cpu_seconds(command, environment)
    rounds = [[cpu_seconds(command, environment) for command in commands] for _ in range(runs)]
    return [min(times) for times in zip(*rounds, strict=True)]


def measure(beside: Path | None, runs: int) -> bool:
    """Print the times; returns whether all of them are within the limits."""
    within = True
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        environment = {
            **_ENVIRONMENT,
            "TORPOR_REDIS_URL": f"redis://127.0.0.1:{port}/0",
            "TORPOR_ARCHIVE_URL": Path(folder).as_uri(),
        }
        try:
            ping = ["redis-cli", "-p", str(port), "ping"]
            wait_until(lambda: subprocess.run(ping, check=False, capture_output=True).returncode == 0)
            for arguments in COMMANDS:
                within &= _compare(arguments, beside, environment, runs)
        finally:
            server.terminate()
            server.wait()
    bare, own = side_by_side([[sys.executable, "-c", code] for code in ("pass", "import torpor")], _ENVIRONMENT, runs)
    sys.stdout.write(f"import torpor: {own - bare:.3f} s above bare Python (at most {IMPORT_SECONDS} s)\n")
    return within and own - bare <= IMPORT_SECONDS


def _compare(arguments: list[str], beside: Path | None, environment: Mapping[str, str], runs: int) -> bool:
    builds = [OWN, beside] if beside else [OWN]
    own, *other = side_by_side([[build, *arguments] for build in builds], environment, runs)
    limit = LIMITS[arguments[0]]
    compared = f", {own / other[0]:.2f} of {other[0]:.2f} s (at most {limit})" if other else ""
    sys.stdout.write(f"torpor {arguments[0]}: {own:.2f} s{compared}\n")
    return not other or own / other[0] <= limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="the torpor command of another build, in its own environment")
    parser.add_argument("--runs", type=int, default=10, help="how often each command runs")
    options = parser.parse_args()
    sys.exit(not measure(options.beside, options.runs))


if __name__ == "__main__":
    main()
