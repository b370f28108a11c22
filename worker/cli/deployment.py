"""The command that shows and changes which deployment Redis and the archive belong to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from torpor.history.protocol import InvalidArgument
from torpor.worker.cli import console
from torpor.worker.cli.shared import Json
from torpor.worker.deployment.identity import Comparison, State, compare_sides
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import load_settings
from torpor.worker.ops import moves, recovery
from torpor.worker.ops.reconciling import Mending
from torpor.worker.ops.recovery import Survey


class Action(StrEnum):
    """What to do with the deployment."""

    SHOW = "show"
    MOVE_ARCHIVE = "move-archive"
    RECOVER = "recover"
    FORK = "fork"


_QUESTIONS = {
    Action.MOVE_ARCHIVE: "Record in Redis {redis} that its archive is {archive} from now on?",
    Action.RECOVER: "Let Redis {redis} take over {archive}, and refuse every other Redis there, even one in use?",
    Action.FORK: "Give Redis {redis} and {archive}, which are copies, a new id?",
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
        bool, typer.Option("--force", help="Even if another Redis has used the archive in the last five minutes.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Show whether Redis and the archive belong together, or make them.

    Both have the id of the deployment, and Redis has the archive's URL. Workers, commands and applications that wake
    sessions refuse a Redis and an archive that do not belong together.

    move-archive: the bucket has moved, with all of its objects. recover: Redis was lost, replaced, or restored from a
    backup, and its archive lives; legal holds and tombstones are rebuilt from the archive, and sessions in Redis get
    what was archived since. fork: Redis and the archive are copies of another
    deployment's, such as for staging.

    Example: torpor deployment

    Example: torpor deployment recover --dry-run
    """
    services = connect(load_settings(context.obj))
    if give_up is not None and action is not Action.RECOVER:
        raise InvalidArgument("--give-up is for recover")
    if action is Action.SHOW:
        _show(compare_sides(services.sessions, services.archive), as_json=as_json)
        return
    found = _checked(services, action, give_up, force=force)
    surveyed = _surveyed(services) if action is Action.RECOVER and found.state is not State.AGREE else Survey()
    if not as_json:
        console.say(found.sides())
        _say_holds(surveyed)
        _say_reconciled(surveyed)
    changes = found.state is not State.AGREE
    if changes and not dry_run:
        if not yes:
            typer.confirm(_question(action, found), abort=True, err=True)
        surveyed = _act(services, action, surveyed, give_up, force=force)
    _tell(services, action, surveyed, changes=changes, dry_run=dry_run, as_json=as_json)


def _question(action: Action, found: Comparison) -> str:
    return _QUESTIONS[action].format(redis=found.redis.redis, archive=found.archive.url)


def _checked(services: Services, action: Action, give_up: str | None, *, force: bool) -> Comparison:
    if action is Action.RECOVER:
        return recovery.check_lost(services, give_up, force=force)
    check = moves.check_moved if action is Action.MOVE_ARCHIVE else moves.check_copies
    return check(services, force=force)


def _surveyed(services: Services) -> Survey:
    with console.working("surveying the archive") as status:
        return recovery.survey(services, lambda count: status.update(f"surveying the archive: {count:,} sessions"))


def _act(services: Services, action: Action, surveyed: Survey, give_up: str | None, *, force: bool) -> Survey:
    if action is Action.RECOVER:
        with console.working("recovering") as status:
            return recovery.recover(
                services,
                surveyed,
                give_up,
                force=force,
                progress=lambda count: status.update(f"recovering: {count:,} sessions"),
            )
    if action is Action.MOVE_ARCHIVE:
        moves.move_archive(services, force=force)
    else:
        moves.fork(services, force=force)
    return surveyed


def _say_holds(surveyed: Survey) -> None:
    for owner in surveyed.owners:
        console.say(console.one_line(f"a legal hold, whose reason was lost: owner {owner}"))
    for session_id in surveyed.own:
        console.say(console.one_line(f"a legal hold, whose reason was lost: session {session_id}"))


_MENDINGS = {
    Mending.ASLEEP: "have messages in the archive that Redis lacks, and fall asleep",
    Mending.JOINED: "have such messages too; what was written since stays in Redis and comes after them",
    Mending.EMPTIED: "were cleared or purged since, and are emptied",
    Mending.PURGED: "were purged, and get their tombstones again",
    Mending.BUSY: "are leased by workers or are being woken: stop the workers, and wait",
}


def _say_reconciled(surveyed: Survey) -> None:
    for session_id in surveyed.perhaps_released:
        console.say(console.one_line(f"a legal hold that may have been released and stays: session {session_id}"))
    kinds = Counter(each.mending for each in surveyed.reconciled.values())
    for mending, meaning in _MENDINGS.items():
        if kinds[mending]:
            console.say(f"{kinds[mending]:,} sessions {meaning}")
    for each in surveyed.reconciled.values():
        if each.mending is Mending.UNCLEAR:
            console.say(console.one_line(f"session {each.session_id} stays as it is: {each.detail}"))


def _tell(services: Services, action: Action, surveyed: Survey, *, changes: bool, dry_run: bool, as_json: bool) -> None:
    now = compare_sides(services.sessions, services.archive)
    if as_json:
        done = {"action": action, "changes": changes, "dry_run": dry_run}
        console.print_json({**done, **_fields(now), **(_found(surveyed) if action is Action.RECOVER else {})})
    elif not changes:
        console.say("nothing to do: both belong together")
    elif dry_run:
        console.say(f"would be done: {_question(action, now).rstrip('?')}")
    else:
        console.say(f"done: deployment {now.redis.deployment}")


def _show(found: Comparison, *, as_json: bool) -> None:
    if as_json:
        console.print_json(_fields(found))
    else:
        console.print_facts(
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
        "sessions": [asdict(each) for each in surveyed.reconciled.values()],
    }


def _fence_moved(found: Comparison) -> str | None:
    moved_at = found.archive.fence and found.archive.fence.moved_at
    return moved_at.isoformat(timespec="seconds") if moved_at else None


def _fence_moved_by(found: Comparison) -> str | None:
    if found.archive.fence is None:
        return None
    return "another Redis" if found.is_behind else "this Redis"
