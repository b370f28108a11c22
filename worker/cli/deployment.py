"""The command that shows and changes which deployment Redis and the archive belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from torpor.worker.audit.act import Act
from torpor.worker.audit.trail import Sides, Who
from torpor.worker.cli import printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import Json
from torpor.worker.deployment.identity import Comparison, State, check_id, compare_sides
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import load_settings
from torpor.worker.ops import catching_up, forks, moves, recovery
from torpor.worker.ops.catching_up import Survey
from torpor.worker.ops.reconciling import ReconcileOutcome

_Progress = Callable[[int], None]


class Action(StrEnum):
    """What to do with the deployment."""

    SHOW = "show"
    MOVE_ARCHIVE = Act.MOVE_ARCHIVE.value
    RECOVER = Act.RECOVER.value
    FORK = Act.FORK.value


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command line says."""

    action: Action
    give_up: str | None
    force: bool
    dry_run: bool
    yes: bool
    who: Who
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Change:
    """An action that changes the deployment. `question` is asked before, and `at_work` told meanwhile.

    `check` refuses sides that the action is not for. `survey` finds what is to be done. `carry_out` returns what was
    done. Both tell how many sessions or objects were done so far.
    """

    question: str
    at_work: str
    check: Callable[[Services, _Options], Comparison]
    survey: Callable[[Services, _Options, _Progress], Survey]
    carry_out: Callable[[Services, Survey, _Options, _Progress], Survey]


_CHANGES = {
    Action.MOVE_ARCHIVE: _Change(
        "Record in Redis {redis} that its archive is {archive} from now on?",
        "moving",
        lambda services, given: moves.check_moved(services, force=given.force),
        lambda services, given, progress: moves.survey(services, progress, force=given.force),
        lambda services, surveyed, given, progress: moves.move_archive(
            services, surveyed, force=given.force, progress=progress
        ),
    ),
    Action.RECOVER: _Change(
        "Let Redis {redis} take over {archive}, and refuse every other Redis there, even one in use?",
        "recovering",
        lambda services, given: recovery.check_lost(services, given.give_up, force=given.force),
        lambda services, _, progress: catching_up.survey(services, progress),
        lambda services, surveyed, given, progress: recovery.recover(
            services, surveyed, given.give_up, force=given.force, progress=progress
        ),
    ),
    Action.FORK: _Change(
        "Give Redis {redis} and {archive}, which are copies, a new id?",
        "forking",
        lambda services, given: forks.check_copies(services, force=given.force),
        lambda services, _, progress: forks.survey(services, progress),
        lambda services, surveyed, given, progress: forks.fork(
            services, surveyed, force=given.force, progress=progress
        ),
    ),
}


def deployment(
    context: typer.Context,
    action: Annotated[Action, typer.Argument(help="What to do.")] = Action.SHOW,
    *,
    give_up: Annotated[
        str | None,
        typer.Option(metavar="ID", help="With recover: the id of the other deployment that this Redis gives up."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Even if another Redis has used the archive in the last five minutes; with move-archive, even if the "
            "copy lacks something, or has what was erased since; with fork, even if Redis seems to be the original.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Show whether Redis and the archive belong together, or make them.

    Both have the id of the deployment, and Redis has the archive's URL. Workers, commands and applications that wake
    sessions refuse a Redis and an archive that do not belong together.

    move-archive: the bucket has moved, with all of its objects. recover: Redis was lost, replaced, or restored from a
    backup, and its archive lives; legal holds and tombstones are rebuilt from the archive, and sessions in Redis get
    what was archived since. fork: Redis and the archive are copies of another deployment's, such as for staging; what
    the copy of the archive has and that of Redis lacks is rebuilt as by recover.

    Example: torpor deployment

    Example: torpor deployment recover --dry-run
    """
    if give_up is not None:
        check_id(give_up)
    options = _Options(action, give_up, force, dry_run, yes, Who(by, reason), as_json)
    services = connect(load_settings(context.obj))
    if action is Action.SHOW:
        _show(compare_sides(services.sessions, services.archive), as_json=as_json)
    else:
        _carry_out(services, options)


def _carry_out(services: Services, options: _Options) -> None:
    change = _CHANGES[options.action]
    if not options.dry_run:
        options.who.check(services)
    found = change.check(services, options)
    changes, surveyed = found.state is not State.AGREE, Survey()
    with _progress("surveying") as progress:
        if changes:
            surveyed = change.survey(services, options, progress)
        elif options.action is Action.RECOVER:
            surveyed = catching_up.survey_done(services, progress)
    if not options.as_json:
        printing.say(found.sides())
        if surveyed.missing:
            printing.warn(printing.one_line(f"the copy of the archive lacks {surveyed.missing}"))
        if surveyed.erased:
            printing.warn(printing.one_line(f"the copy still has what was erased since: {surveyed.erased}"))
        _say_holds(surveyed)
        _say_reconciled(surveyed)
    if changes and not options.dry_run:
        if not options.yes:
            typer.confirm(_question(change, found), abort=True, err=True)
        recorded = audited(services, Act(options.action), options.who, sides=Sides.PARTED)
        with recorded as count, _progress(change.at_work) as progress:
            surveyed = change.carry_out(services, surveyed, options, progress)
            count.sessions = len(surveyed.reconciled)
    _tell(services, surveyed, options, changes=changes)


@contextmanager
def _progress(at_work: str) -> Iterator[_Progress]:
    """Tell people how much was done so far."""
    with printing.working(at_work) as status:
        yield lambda count: status.update(f"{at_work}: {count:,}")


def _question(change: _Change, found: Comparison) -> str:
    return change.question.format(redis=found.redis.redis, archive=found.archive.url)


def _say_holds(surveyed: Survey) -> None:
    for owner in surveyed.owners:
        printing.say(printing.one_line(f"a legal hold, whose reason was lost: owner {owner}"))
    for session_id in surveyed.own:
        printing.say(printing.one_line(f"a legal hold, whose reason was lost: session {session_id}"))
    for session_id in surveyed.perhaps_released:
        printing.say(printing.one_line(f"a legal hold that may have been released and stays: session {session_id}"))
    if surveyed.unheld:
        printing.say(
            f"{len(surveyed.unheld):,} sessions are under a legal hold, and their objects get temporary holds again"
        )


_OUTCOMES = {
    ReconcileOutcome.ASLEEP: "have messages in the archive that Redis lacks, and fall asleep",
    ReconcileOutcome.JOINED: "have such messages too; what was written since stays in Redis and comes after them",
    ReconcileOutcome.EMPTIED: "were cleared or purged since, and are emptied",
    ReconcileOutcome.PURGED: "were purged, and their tombstones stand again",
    ReconcileOutcome.BUSY: "are leased by workers or are being woken: stop the workers, and wait",
}


def _say_reconciled(surveyed: Survey) -> None:
    counted = Counter(each.outcome for each in surveyed.reconciled.values())
    for outcome, meaning in _OUTCOMES.items():
        if counted[outcome]:
            printing.say(f"{counted[outcome]:,} sessions {meaning}")
    for each in surveyed.reconciled.values():
        if each.outcome in (ReconcileOutcome.PURGED, ReconcileOutcome.EMPTIED) and each.dropped:
            printing.say(
                printing.one_line(f"session {each.session_id} loses {each.dropped:,} messages in Redis by that")
            )
        if each.outcome is ReconcileOutcome.UNCLEAR:
            printing.say(printing.one_line(f"session {each.session_id} stays as it is: {each.detail}"))


def _tell(services: Services, surveyed: Survey, options: _Options, *, changes: bool) -> None:
    now = compare_sides(services.sessions, services.archive)
    if options.as_json:
        done = {"action": options.action, "changes": changes, "dry_run": options.dry_run}
        printing.print_json({**done, **_fields(now), **_found(surveyed)})
    elif not changes:
        printing.say("nothing to do: both belong together")
    elif options.dry_run:
        printing.say(f"would be done: {_question(_CHANGES[options.action], now).rstrip('?')}")
    else:
        printing.say(f"done: deployment {now.redis.deployment}")


def _show(found: Comparison, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(_fields(found))
    else:
        printing.print_facts(
            {
                "state": found.state,
                "namespace": found.namespace,
                "Redis": found.redis.redis,
                "its deployment": found.redis.deployment or "-",
                "its archive": found.redis.archive or "-",
                "archive": found.archive.url,
                "the archive's deployment": found.archive.deployment or "-",
                "former deployments": ", ".join(found.archive.former) or "-",
                "fence moved": _fence_moved(found) or "-",
                "by": _fence_moved_by(found) or "-",
            }
        )
    found.check()


def _fields(found: Comparison) -> dict[str, Any]:
    redis, archive = found.redis, found.archive
    return {
        "state": found.state,
        "namespace": found.namespace,
        "redis": {"address": redis.redis, "deployment": redis.deployment, "archive": redis.archive},
        "archive": {
            "url": archive.url,
            "namespace": archive.namespace,
            "deployment": archive.deployment,
            "former": archive.former,
            "fence_moved_at": _fence_moved(found),
            "fence_moved_by": _fence_moved_by(found),
        },
    }


def _found(surveyed: Survey) -> dict[str, Any]:
    return {
        "held_sessions": surveyed.own,
        "held_owners": surveyed.owners,
        "perhaps_released": surveyed.perhaps_released,
        "held_again": surveyed.unheld,
        "missing": surveyed.missing and asdict(surveyed.missing),
        "erased": surveyed.erased and asdict(surveyed.erased),
        "sessions": [asdict(each) for each in surveyed.reconciled.values()],
    }


def _fence_moved(found: Comparison) -> str | None:
    moved_at = found.archive.fence and found.archive.fence.moved_at
    return moved_at.isoformat(timespec="seconds") if moved_at else None


def _fence_moved_by(found: Comparison) -> str | None:
    if found.archive.fence is None:
        return None
    return "another Redis" if found.is_behind else "this Redis"
