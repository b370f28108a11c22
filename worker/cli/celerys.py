"""Runs Celery's own commands with Torpor's app, from any directory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

COMMANDS = ("worker", "beat")
# What the collector begins with; `torpor` has raised it for the imports.
_PYTHONS_THRESHOLDS = gc.get_threshold()


def run(command: str, arguments: Sequence[str], settings: Mapping[str, str] | None = None) -> NoReturn:
    """Be Celery's command, with its options, signals and exit codes, and exit.

    Celery's other commands are not imported, because their shell takes 10 MiB and a tenth of a second. A worker that
    detaches itself, or starts again, runs `sys.argv`; then PYTHONSAFEPATH keeps a `celery.py` in the user's directory
    from being run in Celery's place: https://docs.python.org/3/using/cmdline.html#envvar-PYTHONSAFEPATH
    """
    os.environ.update(settings or {}, PYTHONSAFEPATH="1")
    if command == "worker":
        gc.disable()  # the app enables it when its pool has been forked
    # Celery's banner is text.
    quiet = os.environ.get("TORPOR_LOG_FORMAT", "").lower() == "json"
    celery = import_module("celery")
    itself = import_module("celery.__main__").__file__ or ""
    sys.argv = [itself, *["--quiet"] * quiet, "-A", "torpor.worker.app", command, *arguments]
    celery.maybe_patch_concurrency(sys.argv)
    made: Any = import_module(f"celery.bin.{command}")
    context = import_module("celery.bin.base").CLIContext
    app = import_module("torpor.worker.app").app
    gc.set_threshold(*_PYTHONS_THRESHOLDS)
    getattr(made, command).main(
        list(arguments),
        prog_name=f"celery {command}",
        obj=context(app, no_color=False, workdir=None, quiet=quiet),
        auto_envvar_prefix=f"CELERY_{command.upper()}",
    )
    sys.exit()
