"""The commands that erase sessions for good, and prove it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from torpor.history.protocol import InvalidArgument, SessionNotFound, TorporError, TransientError
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Count, Who
from torpor.worker.cli import Interrupted, printing
from torpor.worker.cli.audited import audited
from torpor.worker.cli.shared import JsonLines, services_of, warn_damaged, warn_of_look_alikes
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import known, orders
from torpor.worker.erasure import purge as purging
from torpor.worker.erasure import receipts as receipting
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order, Scope, check_id
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.erasure.receipts import Standing
from torpor.worker.errors import PurgeNotFound
from torpor.worker.quantities import span_of
from torpor.worker.transfer import adopt


def purge(
    context: typer.Context,
    *,
    sessions: Annotated[list[str] | None, typer.Option("--session", help="Purge one session.")] = None,
    owners: Annotated[list[str] | None, typer.Option("--owner", help="Purge all sessions of an owner.")] = None,
    idle_for: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Purge the sessions of --owner, or all, that are idle for 90d, 12h or 30m."),
    ] = None,
    scope: Annotated[Scope, typer.Option(help="Where to remove them.")] = Scope.EVERYWHERE,
    requested_by: Annotated[str, typer.Option("--by", help="Write into the receipt who asks for it.")] = "",
    reason: Annotated[str, typer.Option(help="Write the reason into the receipt.")] = "",
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Continue an unfinished purge.")] = None,
    record_nothing_found: Annotated[
        bool,
        typer.Option(
            "--record-nothing-found", help="Write a receipt also if nothing is known of the session or owner."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --dry-run one object a line.")] = False,
) -> None:
    """Remove sessions for good, and write a receipt.

    They are removed from Redis and from the archive, unless --scope names one of the two. If nothing is known of the
    session or the owner, the exit code is 3, and there is no receipt. One purge is for one session or one owner.

    Example: torpor purge --session user-42 --dry-run

    Example: torpor purge --owner ann --by dpo@example.com --reason "request 17" --yes

    Example: torpor purge --idle-for 365d --scope archive

    """
    session, owner = _only(sessions, "--session"), _only(owners, "--owner")
    services = services_of(context, identity.require)
    if resume is not None:
        with audited(services, Act.PURGE, Who(requested_by, reason), Subject(purge=check_id(resume))) as count:
            standing = _carry_out(services, resume, count, resumes=True)
        _tell(standing, as_json=as_json)
        return
    order = Order.of(
        session=session,
        owner=owner,
        idle=None if idle_for is None else span_of(idle_for),
        scope=scope,
        requested_by=requested_by,
        reason=reason,
    )
    if not dry_run:
        Who(requested_by, reason).check(services)
        adopt.finish(services, order.session)
    if order.owner is not None:
        warn_of_look_alikes(services, order.owner)
    known.check(services, order, record_nothing_found=record_nothing_found)
    if dry_run:
        _list(services, order, as_json=as_json)
        return
    if not yes:
        _confirm(services, order, record_nothing_found=record_nothing_found)
    with audited(services, Act.PURGE, Who(requested_by, reason), Subject(purge=order.id)) as count:
        standing = _carry_out(services, orders.place(services, order).id, count)
    _tell(standing, as_json=as_json)


def purge_status(
    context: typer.Context,
    purge_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The purge id. Without an id, all unfinished purges are shown.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; without ID one object a line.")] = False,
) -> None:
    """Show the state of a purge, or of all unfinished purges.

    A purge is queued, running, complete, blocked or failed.

    Example: torpor purge-status 20260101T120000Z-0a1b2c3d
    """
    services = services_of(context)
    if purge_id is None:
        _tell_open(receipting.unfinished(services, warn_damaged), as_json=as_json)
        return
    standing = receipting.standing(services, purge_id)
    if as_json:
        printing.print_json(standing.fields())
        return
    shown = (standing.receipt or standing.order).fields()
    printing.print_facts(
        {
            "state": standing.state,
            "found": _text(standing.found),
            **({"error": standing.error} if standing.error else {}),
            **{name: _value(value) for name, value in shown.items() if name not in ("state", "found")},
        }
    )


def receipts(
    context: typer.Context,
    purge_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Show the complete receipt of this purge, as JSON.")
    ] = None,
    *,
    as_json: JsonLines = False,
) -> None:
    """List the receipts of purges, or show one.

    Example: torpor receipts --json | jq 'select(.state == "blocked")'
    """
    services = services_of(context)
    if purge_id is not None:
        standing = receipting.standing(services, purge_id)
        if standing.receipt is None:
            raise TransientError(f"purge {purge_id} is {standing.state}: it has no receipt yet")
        printing.print_json(standing.receipt.fields())
        return
    found = receipting.receipts(services, warn_damaged)
    if as_json:
        for receipt in found:
            printing.print_json(receipt.fields())
        return
    printing.print_table(
        ("purge", "state", "target", "sessions", "objects", "requested by", "finished"),
        (
            (
                each.id,
                each.state,
                _value(each.target.fields()),
                str(each.removed.sessions),
                str(each.removed.objects),
                each.requested_by or "-",
                each.finished_at.isoformat()[:19],
            )
            for each in found
        ),
    )


def _only(values: list[str] | None, option: str) -> str | None:
    """The value of an option that may be given once: of two, the first would be dropped without a word."""
    if values and len(values) > 1:
        raise InvalidArgument(f"a purge has one {option}: order one for each")
    return values[0] if values else None


def _carry_out(services: Services, purge_id: str, count: Count, *, resumes: bool = False) -> Standing:
    """Carry an order out, which was given before if this `resumes` the purge."""
    try:
        with printing.working("purging") as status:
            standing, worked = purging.go_on(
                services, purge_id, lambda tally: status.update(f"purging: {_text(tally)}")
            )
    except PurgeNotFound:
        raise
    except (TorporError, Interrupted):
        printing.warn(f"the next sweep tries again; to try now: torpor purge --resume {printing.one_line(purge_id)}")
        raise
    count.is_unchanged = resumes and not worked
    count.sessions = standing.removed.sessions if worked or not resumes else 0
    return standing


def _tell(standing: Standing, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(standing.fields())
    else:
        printing.say(f"{standing.state}: {_text(standing.removed)}; purge {standing.purge}")
    if standing.state is PurgeState.BLOCKED:
        kept = standing.receipt.kept.named if standing.receipt else []
        why = f" ({printing.one_line(kept[0].why)})" if kept else ""
        raise TorporError(f"some of it may not be removed{why}: torpor receipts {standing.purge}")
    if standing.state is not PurgeState.COMPLETE:
        raise TransientError(
            "a worker may still be uploading some of it: the purge ends when that worker's lease has ended, "
            f"at a sweep or by torpor purge --resume {standing.purge}"
        )


def _tell_open(unfinished: Iterator[Standing], *, as_json: bool) -> None:
    if as_json:
        for each in unfinished:
            printing.print_json(each.fields())
        return
    printing.print_table(
        ("purge", "state", "target", "found", "requested by", "requested", "error"),
        (
            (
                each.purge,
                each.state,
                _value(each.order.target.fields()),
                _text(each.found),
                each.order.requested_by or "-",
                each.order.requested_at.isoformat()[:19],
                each.error or "-",
            )
            for each in unfinished
        ),
    )


def _list(services: Services, order: Order, *, as_json: bool) -> None:
    """Print what would be removed, and from where."""
    total = Tally()
    place = _place(services)
    for each in purging.preview(services, order):
        found = each.found
        if each.kept is None:
            total += found.tally
        if as_json:
            printing.print_json(
                {
                    **found.fields(),
                    "hold": (each.holds[0].damage or each.holds[0].reason) if each.holds else None,
                    "kept": each.kept,
                    **place,
                }
            )
            continue
        where = f"{_text(found.tally)}, {found.live_messages:,} of the messages in Redis"
        kept = f"; kept: {each.kept}" if each.kept else ""
        printing.say(printing.one_line(f"{found.session}: {where}{kept}"))
    if not as_json:
        printing.say(f"would purge: {_text(total)}, {_place_text(services)}")


def _confirm(services: Services, order: Order, *, record_nothing_found: bool) -> None:
    """Ask, unless there is nothing to remove; raises SessionNotFound if that is not to be recorded either."""
    with printing.working("looking"):
        total, kept = purging.sums(purging.preview(services, order))
    for why, count in kept.items():
        printing.warn(printing.one_line(f"{count:,} sessions are kept: {why}"))
    if total.sessions or kept:
        typer.confirm(f"Remove for good: {_text(total)}, {_place_text(services)}?", abort=True, err=True)
    elif not record_nothing_found:
        raise SessionNotFound("there is nothing to purge")


def _place(services: Services) -> dict[str, str | None]:
    """Where a purge removes sessions."""
    recorded = services.sessions.identity()
    return {"redis": recorded.redis, "archive": services.archive.url, "deployment": recorded.deployment}


def _place_text(services: Services) -> str:
    place = _place(services)
    named = f"of deployment {place['deployment']}" if place["deployment"] else "of no deployment yet"
    return f"from Redis {place['redis']} and {place['archive']}, {named}"


def _text(tally: Tally) -> str:
    return (
        f"{tally.sessions:,} sessions, {tally.messages:,} messages, "
        f"{tally.objects:,} objects ({printing.size(tally.bytes)})"
    )


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_value(each)}" for name, each in value.items())
    return f"{len(value):,}" if isinstance(value, list) else "-" if value in (None, "") else str(value)
