"""The command that gives the messages in Redis the stored form of the deployment's setting."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from torpor.history.protocol import Compression
from torpor.worker.audit.act import Act
from torpor.worker.audit.trail import Who
from torpor.worker.bulk import compressing as bulk
from torpor.worker.bulk.compressing import Arguments, Compressed
from torpor.worker.cli import jobs, printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import Json, services_of
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services
from torpor.worker.jobs.job import check_rate
from torpor.worker.pace import Pace
from torpor.worker.quantities import size


def compress(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, and measure the bytes.")] = False,
    here: jobs.Here = False,
    detach: jobs.Detach = False,
    rate: jobs.Rate = None,
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Compress the messages that are in Redis, or make them plain.

    It does what the deployment's setting says by now.

    A change of TORPOR_COMPRESSION counts for new messages, and rewrites nothing. This command rewrites the others while
    everything goes on: nothing else of a session changes. Restart the workers and the applications before, so that
    nobody writes in the other form any more. Threads of LangGraph stay as they are; damaged messages, too, and are
    counted.

    The command orders a job and takes part in it, so the workers share it, and go on with it if the command is killed.

    Example: torpor compress --dry-run

    Example: torpor compress --rate 200 --detach

    """
    services = services_of(context, identity.require)
    compression, who, standing = bulk.setting(services), Who(by, reason), None
    if here or dry_run:
        done = _here(services, who, rate, dry_run=dry_run)
    else:
        given = Arguments(compression=compression)
        standing = jobs.order(services, Act.COMPRESS, who, bulk.NAME, given, rate=rate, detach=detach)
        if jobs.told_detached(standing, as_json=as_json) or standing.result is None:
            return
        done = bulk.compressed(standing.result)
    _tell(done, compression, standing.job if standing else None, dry_run=dry_run, as_json=as_json)
    jobs.check(standing)


def _here(services: Services, who: Who, rate: float | None, *, dry_run: bool) -> Compressed:
    """Rewrite, or measure, in this process alone."""
    wait = Pace(check_rate(rate)).wait
    with audited(services, Act.COMPRESS, who, unless=dry_run) as count, printing.progress(None) as bars:
        task = bars.add_task("looking" if dry_run else "rewriting", total=None)

        def show(sessions: int) -> None:
            count.sessions = sessions
            bars.advance(task)

        done = bulk.compress_all(services, wait, show, dry_run=dry_run)
        count.note(done.counts["sessions"])
        return done


_VERBS = {
    (Compression.ZSTD, False): "compressed",
    (Compression.ZSTD, True): "would compress",
    (Compression.NONE, False): "made plain",
    (Compression.NONE, True): "would make plain",
}


def _tell(done: Compressed, compression: Compression, job: str | None, *, dry_run: bool, as_json: bool) -> None:
    left = Counter[str]()
    examples: dict[str, str] = {}
    for note in done.notes:
        left[note.what] += note.count
        examples.setdefault(note.what, note.name or "-")
    counts = {name: done.counts[name] for name in ("sessions", "messages", "bytes_before", "bytes_after")}
    if as_json:
        told = {what: {"count": count, "example": examples[what]} for what, count in left.items()}
        ordered = {"job": job} if job else {}
        printing.print_json({"compression": compression, **counts, "left": told, "dry_run": dry_run, **ordered})
        return
    sizes = f"all messages took {size(counts['bytes_before'])}, and take {size(counts['bytes_after'])}"
    if dry_run:
        sizes = f"all messages take {size(counts['bytes_before'])}, and would take {size(counts['bytes_after'])}"
    printing.say(
        f"{_VERBS[compression, dry_run]}: {counts['messages']:,} messages of {counts['sessions']:,} sessions; {sizes}"
    )
    for what, count in left.items():
        printing.say(f"left: {count:,} in {printing.one_line(examples[what])} or others: {what}")
