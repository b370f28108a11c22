"""All works by the names that orders have. The module of a work is imported when a job asks for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torpor.worker.jobs.job import Job
from torpor.worker.jobs.work import Means, Work, Works


def _made_by(module: str, name: str) -> Callable[[Means, Job], Work]:
    def make(means: Means, job: Job) -> Work:
        work: Work = getattr(import_module(f"torpor.worker.bulk.{module}"), name).of(means, job)
        return work

    return make


WORKS: Works = {
    "adopt": _made_by("adopting", "Adoption"),
    "export": _made_by("exporting", "Export"),
    "compress": _made_by("compressing", "Compressing"),
    "doctor": _made_by("examining", "Examination"),
}
