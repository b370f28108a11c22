"""What an operator must look at: each warning of status, with the code by which programs know it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from torpor.history.protocol import ArchiveHealth
from torpor.worker.deployment.memory import NodeMemory
from torpor.worker.deployment.settings import Settings
from torpor.worker.jobs.open_jobs import OpenState
from torpor.worker.monitoring.seen import Seen, SeenSweep
from torpor.worker.quantities import span

# What should come again and again is missed after three times its interval, but not before five minutes, as the alerts
# of deploy/prometheus/alerts.yml.
_MISSED_INTERVALS = 3
_MISSED_LEAST = timedelta(minutes=5)
# A first `torpor sweep --once` in a deployment without workers: its schedule is not known before the second.
_FIRST_SWEEP = timedelta(days=1)
_STUCK = (OpenState.REFUSED, OpenState.FAILED)


class Code(StrEnum):
    """The codes of warnings; they are permanent."""

    DEPLOYMENT_REFUSED = "deployment_refused"
    ARCHIVE_UNAVAILABLE = "archive_unavailable"
    NO_WORKER = "no_worker"
    BEAT_SILENT = "beat_silent"
    SWEEPS_MISSING = "sweeps_missing"
    EVICTION_POLICY = "eviction_policy"
    MEMORY_HIGH = "memory_high"
    JOB_STUCK = "job_stuck"
    NOTES_UNREADABLE = "notes_unreadable"


# What an operator does about each.
REMEDIES: Mapping[Code, str] = {
    Code.DEPLOYMENT_REFUSED: "Run torpor deployment: it says what belongs together, and how to mend it.",
    Code.ARCHIVE_UNAVAILABLE: "Nothing is lost, and workers try again. See torpor bucket and its permissions.",
    Code.NO_WORKER: "Start a worker (torpor worker) and beat (torpor beat), or torpor sweep.",
    Code.BEAT_SILENT: "Start beat: torpor beat.",
    Code.SWEEPS_MISSING: "Look at the broker (TORPOR_BROKER_URL), and at the workers' logs.",
    Code.EVICTION_POLICY: "Set maxmemory-policy to noeviction.",
    Code.MEMORY_HIGH: "Sessions fall asleep early meanwhile. Enlarge Redis, or shorten the idle timeout.",
    Code.NOTES_UNREADABLE: "Delete these fields; Torpor does without them.",
}


@dataclass(frozen=True, slots=True)
class StatusWarning:
    """A warning in words."""

    code: Code
    text: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDIES[self.code]


def warnings(
    settings: Settings, seen: Seen, health: ArchiveHealth, nodes: Sequence[NodeMemory], waiting: int
) -> Iterator[StatusWarning]:
    """All warnings, the most urgent first. `waiting` is the number of sessions that wait to fall asleep."""
    if outage := unavailable(health):
        yield StatusWarning(Code.ARCHIVE_UNAVAILABLE, f"the archive is unavailable {outage}")
    if not (seen.at_work or _sweeps_regularly(seen)):
        waits = f"; {waiting:,} sessions wait to fall asleep" if waiting else ""
        yield StatusWarning(Code.NO_WORKER, f"nobody works: {_last_at_work(seen)}{waits}")
    elif seen.at_work:
        yield from _of_sweeps(seen, timedelta(seconds=settings.sweep_interval_seconds))
    for policy in sorted({node.policy for node in nodes if node.policy.startswith("allkeys-")}):
        text = f"maxmemory-policy is {policy}, which deletes live sessions: set noeviction"
        yield StatusWarning(Code.EVICTION_POLICY, text)
    if full := sum(node.above(settings.memory_high) for node in nodes):
        text = f"{full} of {len(nodes)} nodes use more than {settings.memory_high:.0%} of their memory"
        yield StatusWarning(Code.MEMORY_HIGH, f"{text}: sessions are archived early")
    stuck = [f"{seen.jobs[state]:,} {state}" for state in _STUCK if seen.jobs[state]]
    if stuck:
        yield StatusWarning(Code.JOB_STUCK, f"jobs that do not get on: {', '.join(stuck)}; torpor jobs tells why")
    if seen.unreadable:
        fields = ", ".join(seen.unreadable)
        text = f"the hash of who was seen, or that of measures, has fields that Torpor has not written: delete {fields}"
        yield StatusWarning(Code.NOTES_UNREADABLE, text)


def unavailable(health: ArchiveHealth) -> str | None:
    """Since when the archive fails, and the latest error of the worker that has met it last; None if it works."""
    if health.unavailable_since is None:
        return None
    failed = [(each.last_failure, each.worker, each.error) for each in health.workers if each.last_failure]
    says = "".join(f", says {worker}: {error}" for _, worker, error in sorted(failed)[-1:])
    return f"since {health.unavailable_since.isoformat(timespec='seconds')}{says}"


def health_in_words(health: ArchiveHealth, now: datetime) -> str:
    """Whether the archive works, in a few words."""
    if health.unavailable_since:
        return f"unavailable for {span(max((now - health.unavailable_since).total_seconds(), 0))}"
    return "available" if health.workers else "no worker has used the archive in the last day"


def _sweeps_regularly(seen: Seen) -> bool:
    """True if `torpor sweep` takes the place of workers and of beat."""
    sweep = seen.sweep
    if sweep is None or not sweep.by_command:
        return False
    if sweep.every is None:
        return not seen.workers and seen.now - sweep.at < _FIRST_SWEEP
    return seen.now - sweep.at < _missed_after(sweep.every)


def _last_at_work(seen: Seen) -> str:
    """Who was last seen at work, in words."""
    last = max(seen.workers, key=lambda worker: worker.last_seen, default=None)
    if seen.sweep and seen.sweep.by_command and (last is None or (seen.sweep.every and seen.sweep.at > last.last_seen)):
        return f"the last sweep of {_command(seen.sweep)} was {span(seen.now - seen.sweep.at)} ago"
    if last:
        return f"the last worker, {last.name}, was seen {span(seen.now - last.last_seen)} ago"
    return "no worker was seen in the last day"


def _command(sweep: SeenSweep) -> str:
    every = "" if sweep.every is None else f", which ran every {span(sweep.every)},"
    return f"torpor sweep on {sweep.host}{every}"


def _of_sweeps(seen: Seen, interval: timedelta) -> Iterator[StatusWarning]:
    """Sweeps do not arrive at workers that run. Workers that have just started had no time for one."""
    sweep = seen.sweep
    started = min(worker.since or worker.last_seen for worker in seen.at_work)
    missing = seen.now - max(sweep.at if sweep else started, started)
    if missing < _missed_after(interval) or _sweeps_regularly(seen):
        return
    swept = f"nobody has swept for {span(missing)}"
    if seen.beat and seen.now - seen.beat < _missed_after(interval):
        text = f"{swept}, though beat sends sweeps: look at the broker, and whether the workers take tasks"
        yield StatusWarning(Code.SWEEPS_MISSING, text)
    else:
        yield StatusWarning(Code.BEAT_SILENT, f"beat is silent: {_last_sent(seen.now, seen.beat)}, and {swept}")


def _last_sent(now: datetime, beat: datetime | None) -> str:
    return f"it last sent a task {span(now - beat)} ago" if beat else "it has sent no task in the last day"


def _missed_after(interval: timedelta) -> timedelta:
    return max(_MISSED_INTERVALS * interval, _MISSED_LEAST)
