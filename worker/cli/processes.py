"""The commands that start Celery with Torpor's app, from any directory."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand


class CeleryCommand(TyperCommand):
    """A command whose arguments, `--help` and `--` included, are Celery's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave the arguments as they are, for Celery."""
        ctx.args = list(args)
        return []


def worker(context: typer.Context) -> None:
    """Start a Celery worker, with the options of `celery worker`."""
    _become_celery("worker", context)


def beat(context: typer.Context) -> None:
    """Start Celery's beat, with the options of `celery beat`."""
    _become_celery("beat", context)


def _become_celery(command: str, context: typer.Context) -> NoReturn:
    """Replace this process by Celery's own, so that signals, exit codes and restarts are Celery's.

    PYTHONSAFEPATH keeps a `celery.py` in the user's directory from being run in Celery's place:
    https://docs.python.org/3/using/cmdline.html#envvar-PYTHONSAFEPATH
    """
    given = {f"TORPOR_{name.upper()}": value for name, value in context.obj.items() if isinstance(value, str)}
    environment = {**os.environ, **given, "PYTHONSAFEPATH": "1"}
    # Celery's banner is text.
    quiet = ["--quiet"] if environment.get("TORPOR_LOG_FORMAT", "").lower() == "json" else []
    arguments = [sys.executable, "-m", "celery", *quiet, "-A", "torpor.worker.app", command, *context.args]
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - no shell is wanted
