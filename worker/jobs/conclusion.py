"""The conclusion of a job: its result, and what goes when that is there."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta

from torpor.worker.archive import documents, names
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveConflict, ArchiveRefused
from torpor.worker.jobs import look
from torpor.worker.jobs.batches import Batches
from torpor.worker.jobs.job import Done, Job, JobState, Result, Summary
from torpor.worker.jobs.work import Try, Work

log = logging.getLogger("torpor.jobs")

_RESULT_KEPT = timedelta(days=30)


def write(services: Services, order: Job, work: Work, *, complete: bool) -> None:
    """Conclude the work, and write the result of a job, once: a result that exists stays as it is."""
    summary, counted = _sum_up(services.archive, order)
    outcome = work.conclude(iter(counted), complete=complete)
    summary.counts.update(outcome.counts)
    for note in outcome.notes:
        summary.note(note)
    now = services.sessions.redis_time()
    result = Result(
        **order.fields(),
        state=JobState.COMPLETE if complete else JobState.CANCELED,
        finished_at=now,
        counts=dict(summary.counts),
        noted=dict(summary.noted),
        notes=summary.notes,
    )
    with suppress(ArchiveConflict):
        documents.put(services.archive, names.JOBS.result(order.id), result, custom_time=now + _RESULT_KEPT)
    log.info("job %s: %s %s: %s", order.id, order.work, result.state, result.counts)


def tidy(batches: Batches) -> None:
    """Delete all objects of a job but its result: batches name sessions. Repeatable."""
    for stored in batches.objects():
        if stored.name != batches.names.result(batches.job):
            with suppress(ArchiveRefused):
                batches.archive.delete(stored)


def _sum_up(archive: ArchiveStore, order: Job) -> tuple[Summary, list[Try]]:
    """What came of all batches that were done, and the tries that count."""
    summary = Summary()
    counted: list[Try] = []
    for stored in Batches(archive, names.JOBS, order.id).objects():
        number = names.JOBS.number_of(order.id, stored.name)
        if number is None or not stored.name.endswith(names.JOBS.done):
            continue
        counted.append(Try(number, stored.metadata.get("token", "")))
        summary.counts.update({"units": look.whole_number(stored, "units"), **look.counts_of(stored)})
        if look.whole_number(stored, "notes"):
            for note in documents.read_stored(archive, stored, Done).notes:
                summary.note(note)
    return summary, counted
