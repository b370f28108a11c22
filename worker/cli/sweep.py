"""The command that does the regular work in this process, for a schedule in place of Celery."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated

import typer

from torpor.history.protocol import TransientError
from torpor.worker.audit.act import Act
from torpor.worker.audit.trail import Count, Sides, Who
from torpor.worker.bulk.works import WORKS
from torpor.worker.cli import printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import JsonLines, connected, services_of
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.watch import Watch
from torpor.worker.ops import one_sweep
from torpor.worker.ops.one_sweep import Swept
from torpor.worker.sleep.outcome import Outcome

_FAILED = {Outcome.FAILED, Outcome.QUARANTINED}


def sweep(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="End after one sweep, as a scheduled job does.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what is due; change nothing.")] = False,
    by: By = "",
    reason: Reason = "",
    as_json: JsonLines = False,
) -> None:
    """Archive what is due in this process, without Celery.

    Continues open purges, too, takes turns in jobs for half a minute, and deletes from a folder what has expired.
    Without --once, it does so again every TORPOR_SWEEP_INTERVAL_SECONDS, also after an outage. With --once, the exit
    code is 4 if sessions are still due afterwards, and 1 if a session, a purge or a job has failed or is refused.

    It does what the workers do without being asked, so the audit trail has it only with --by or --reason: say who you
    are if you sweep by hand.

    Example: torpor sweep --once --json
    """
    if dry_run:
        _show_waiting(services_of(context, identity.check_first_use), as_json=as_json)
        return
    services, who = connected(context), Who(by, reason)
    with audited(services, Act.SWEEP, who, sides=Sides.UNCOMPARED, unless=who == Who()) as count:
        swept = _sweep_on(services, count, once=once, as_json=as_json)
    _end(swept)


def _sweep_on(services: Services, count: Count, *, once: bool, as_json: bool) -> Swept:
    """Sweep again and again, or once; `count` has how many sessions were archived."""
    watch = Watch(services.sessions, services.archive)
    pause = services.settings.sweep_interval_seconds
    every = None if once else timedelta(seconds=pause)
    while True:
        try:
            swept = _sweep(services, watch, as_json=as_json, every=every)
            count.sessions += swept.sessions.get(Outcome.ARCHIVED, 0)
            if once:
                return swept
        except TransientError as error:
            if once:
                raise
            printing.warn(f"torpor: {error}")
        time.sleep(pause)


def _sweep(services: Services, watch: Watch, *, as_json: bool, every: timedelta | None) -> Swept:
    with printing.working("sweeping") as status:
        swept = one_sweep.sweep(
            services, watch, WORKS, lambda count: status.update(f"sweeping: {count:,} sessions"), every=every
        )
    _show(swept, as_json=as_json)
    return swept


def _show_waiting(services: Services, *, as_json: bool) -> None:
    waiting = one_sweep.waiting(services)
    if as_json:
        printing.print_json(waiting)
    else:
        is_open = f"{len(waiting.purges):,} purges, {len(waiting.jobs):,} jobs"
        printing.say(f"due: {waiting.sessions:,} sessions; open: {is_open}")


def _show(swept: Swept, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(swept)
        return
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(swept.sessions.items()))
    printing.say(f"sessions: {counts or 'none was due'}")
    for purge, state in (swept.purges | swept.failed).items():
        printing.say(f"purge {purge}: {printing.one_line(state)}")
    for job, state in (swept.jobs | swept.failed_jobs).items():
        printing.say(f"job {job}: {printing.one_line(state)}")
    if swept.expired:
        printing.say(f"expired: {swept.expired:,} objects")


def _end(swept: Swept) -> None:
    if swept.waiting:
        raise TransientError(f"{swept.waiting:,} sessions are still due; torpor status tells why")
    if swept.failed or swept.failed_jobs or _FAILED & swept.sessions.keys():
        raise typer.Exit(1)
