"""The command that shows the state of the deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from torpor.worker.cli import printing
from torpor.worker.cli.shared import Json, connected

if TYPE_CHECKING:
    from torpor.history.protocol import WorkerHealth
    from torpor.worker.monitoring.asleep import Asleep
    from torpor.worker.monitoring.seen import SeenSweep, SeenWorker
    from torpor.worker.ops.glance import Glance
    from torpor.worker.ops.status import Belonging, Overview

# For so many seconds, status asks an archive that does not answer.
_PATIENCE = 2.0


def status(
    context: typer.Context,
    *,
    archive: Annotated[
        bool, typer.Option("--archive/--no-archive", help="Compare the archive with Redis, or leave it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Show what must be looked at, who works, and how many sessions there are.

    Warnings come first, on standard error. If Redis and the archive do not belong together, so that workers refuse all
    work, the exit code is 2.

    Example: torpor status --json | jq '.warnings[].code'
    """
    from torpor.worker.ops import status as standing

    overview = standing.overview(connected(context, patience=_PATIENCE), archive=archive)
    for warning in overview.warnings:
        is_error = warning.code == "deployment_refused"
        if is_error or not as_json:
            printing.warn(f"{'torpor' if is_error else 'warning'}: {printing.one_line(warning.text)}")
    if as_json:
        printing.print_json(overview)
    else:
        _print(overview)
    if overview.deployment.refused:
        raise typer.Exit(2)


def _print(overview: Overview) -> None:
    printing.print_facts(_facts(overview))
    if overview.workers:
        printing.print_table(
            ("worker", "host", "version", "up for", "seen", "in work"),
            [_worker(each, overview.now) for each in overview.workers],
        )


def _facts(overview: Overview) -> Mapping[str, str]:
    from torpor.worker.ops.status_warnings import health_in_words

    limit, now = overview.memory_limit_bytes, overview.now
    return {
        "archive health": health_in_words(overview.archive_health, now),
        "Redis and archive": _belonging_of(overview.deployment),
        "workers": f"{len(overview.workers):,}",
        "beat": f"sent a task {_ago(overview.beat, now)}" if overview.beat else "has sent no task in the last day",
        "last sweep": _sweep(overview.sweep, now) if overview.sweep else "none in the last day",
        "live in Redis": f"{overview.live:,}",
        "by kind": kinds_of(overview.kinds),
        "due": f"{overview.due:,}",
        "in work": f"{overview.in_work:,}",
        "postponed": f"{overview.postponed:,}",
        "quarantined": f"{overview.quarantined:,}",
        "asleep": _asleep(overview.asleep, now),
        "archived since start": f"{overview.archived:,}",
        "restored since start": f"{overview.restored:,}",
        "open purges": _open([(overview.purges, "open")], overview.oldest_purge_seconds),
        "open jobs": jobs_of(overview),
        "tombstones": f"{overview.tombstones:,}",
        "oldest overdue": printing.span(overview.oldest_overdue_seconds),
        "Redis memory": printing.size(overview.memory_bytes) + (f" of {printing.size(limit)}" if limit else ""),
        "shards": str(overview.shards),
        "archive": overview.archive,
        **{f"archive for {each.worker}": _notes_of(each, now) for each in overview.archive_health.workers},
    }


def kinds_of(kinds: Mapping[str, int] | None) -> str:
    """The sessions in Redis by kind, in words."""
    if kinds is None:
        return "not counted; torpor doctor --repair counts them"
    return ", ".join(f"{count:,} {kind}s" for kind, count in kinds.items())


def _asleep(count: Asleep | None, now: datetime) -> str:
    if count is None:
        return "not counted; torpor sessions --count-asleep counts them"
    since = f"since then {count.fell_asleep:,} fell asleep and {count.woken:,} were woken"
    return f"{count.sessions:,} as counted {_ago(count.at, now)}; {since}"


def jobs_of(seen: Overview | Glance) -> str:
    """The open jobs by state, and for how long the oldest is open, in words."""
    return _open([(count, state) for state, count in seen.jobs.items()], seen.oldest_job_seconds)


def _open(counts: Sequence[tuple[int, str]], oldest_seconds: float) -> str:
    some = [f"{count:,} {state}" for count, state in counts if count]
    return f"{', '.join(some)}; the oldest for {printing.span(oldest_seconds)}" if some else "none"


def _worker(worker: SeenWorker, now: datetime) -> tuple[str, ...]:
    up = printing.span(max((now - worker.since).total_seconds(), 0)) if worker.since else "-"
    return worker.name, worker.host, worker.version, up, _ago(worker.last_seen, now), tasks(worker)


def tasks(worker: SeenWorker) -> str:
    """The tasks that a worker has in work, in words."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(worker.in_work.items())) or "nothing"


def _sweep(sweep: SeenSweep, now: datetime) -> str:
    by = f"torpor sweep on {sweep.host}" if sweep.by_command else f"a worker on {sweep.host}"
    return f"{_ago(sweep.at, now)}, by {by}" + (f", every {printing.span(sweep.every)}" if sweep.every else "")


def _ago(moment: datetime, now: datetime) -> str:
    return f"{printing.span(max((now - moment).total_seconds(), 0))} ago"


def _belonging_of(deployment: Belonging) -> str:
    """Whether Redis and the archive belong together, in a few words."""
    from torpor.worker.deployment.identity import State

    words = {
        State.AGREE: "belong together",
        State.NEW: "were not used together yet",
        State.DISAGREE: "do not belong together: workers refuse all work",
    }
    return words[deployment.state] if deployment.state else f"not compared: {deployment.problem}"


def _notes_of(worker: WorkerHealth, now: datetime) -> str:
    """When the archive has last worked for a worker, and when and why it has failed."""
    moments = {"worked": worker.last_success, "failed": worker.last_failure}
    ago = [f"{what} {_ago(at, now)}" for what, at in moments.items() if at]
    return ", ".join(ago) + (f": {worker.error}" if worker.error else "")
