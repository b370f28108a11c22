"""The `torpor` command in this process, its output thrown away."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from fuzz.documents import FINISHED, OPEN, OWNER
from torpor.worker import cli
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

COMMANDS = [
    *("receipts", "receipts --json", f"receipts {FINISHED[0]}", "purge-status", "purge-status --json"),
    *(f"purge-status {OPEN[0]}", f"purge-status {FINISHED[0]}", "deployment", "deployment --json", "status", "doctor"),
    *("deployment recover --dry-run", f"purge --owner {OWNER} --dry-run", f"purge --resume {OPEN[0]}"),
    *(f"purge --session {OPEN[0]} --dry-run", "purge --session nobody --dry-run"),
]
# For a Redis that has lost everything.
RECOVERY = ["deployment recover --force --dry-run", "deployment recover --force --yes"]


def run(services: Services, arguments: str) -> int:
    """Run a command; returns its exit code, and raises what crashes it."""
    with _variables(environment(services.settings)), Path(os.devnull).open("w") as nowhere:
        before, sys.argv = sys.argv, ["torpor", *arguments.split()]
        try:
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                cli.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        finally:
            sys.argv = before
    return 0


@contextlib.contextmanager
def _variables(given: dict[str, str]) -> Iterator[None]:
    before = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    os.environ.update(given)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            del os.environ[name]
        os.environ.update(before)
