"""torpor.worker.app with a note of the CPU that the body of each task takes: `celery -A bench.share_probe worker`."""

from __future__ import annotations

import os
import time
from typing import Any

from celery.signals import task_postrun, task_prerun

from torpor.worker.app import app

__all__ = ["app"]

# Each task appends a line to this file: its name, the seconds of CPU that its body took, and its result.
NOTES = "BENCH_TASK_NOTES"
_begun = 0.0


def _begin(**_: Any) -> None:
    global _begun  # noqa: PLW0603 - a process of the pool does one task at a time
    _begun = time.process_time()


def _end(task: Any, retval: Any, **_: Any) -> None:
    taken = time.process_time() - _begun
    with open(os.environ[NOTES], "a") as notes:  # noqa: PTH123 - the least work, which counts as Celery's
        notes.write(f"{task.name}\t{taken}\t{retval}\n")


if NOTES in os.environ:
    task_prerun.connect(_begin)
    task_postrun.connect(_end)
