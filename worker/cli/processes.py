"""The commands that start Celery with Torpor's app, from any directory."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from torpor.worker.cli import celerys


class CeleryCommand(TyperCommand):
    """A command whose arguments, `--help` and `--` included, are Celery's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave the arguments as they are, for Celery."""
        ctx.args = list(args)
        return []


def worker(context: typer.Context) -> None:
    """Start a Celery worker, with the options of `celery worker`."""
    celerys.run("worker", context.args, _settings(context))


def beat(context: typer.Context) -> None:
    """Start Celery's beat, with the options of `celery beat`."""
    celerys.run("beat", context.args, _settings(context))


def _settings(context: typer.Context) -> dict[str, str]:
    return {f"TORPOR_{name.upper()}": value for name, value in context.obj.items() if isinstance(value, str)}
