"""The commands that say what must be kept, and for how long: legal holds, and the bucket's own rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Annotated

import typer

from torpor.history.protocol import InvalidArgument, StandingHold, check_owner, check_session_id
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.cli import printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import Json, JsonLines, redis_of, services_of
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services
from torpor.worker.errors import HoldNotFound
from torpor.worker.ops import bucket_check
from torpor.worker.retention import legal_hold as holding
from torpor.worker.retention.legal_hold import HoldResult

# So many rows are printed at a time.
_ROWS = 500
_Session = Annotated[str | None, typer.Option(help="Name one session.")]
_Owner = Annotated[str | None, typer.Option(help="Name an owner: all present and future sessions.")]


def hold(
    context: typer.Context,
    *,
    reason: Annotated[str, typer.Option(help="Say why the messages must be kept.")],
    session: _Session = None,
    owner: _Owner = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Put a session or an owner under a legal hold.

    The sessions are archived as always, but nobody can clear or purge them, and they do not expire. The hold of an
    owner may come before the owner's first session.

    Example: torpor hold --owner ann --reason "case 12/2026" --by counsel@example.com
    """
    if not reason.strip():
        raise InvalidArgument("a legal hold needs a --reason")
    held = _set(context, Act.HOLD, _named(session, owner), Who(by, reason))
    _tell(held, "held", as_json=as_json)
    if owner is not None and not held.sessions:
        printing.warn(f"nothing is known of owner {owner!r} yet: the hold is for sessions to come")


def unhold(
    context: typer.Context,
    *,
    session: _Session = None,
    owner: _Owner = None,
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Release the legal hold of a session or an owner.

    Example: torpor unhold --owner ann
    """
    released = _set(context, Act.UNHOLD, _named(session, owner), Who(by, reason))
    _tell(released, "released", as_json=as_json)


def holds(context: typer.Context, *, as_json: JsonLines = False) -> None:
    """List who is under a legal hold, since when, why, and by whom.

    Example: torpor holds --json | jq -r 'select(.kind == "owner") | .id'
    """
    found = redis_of(context).sessions.standing_holds()
    if as_json:
        for each in found:
            printing.print_json(each)
        return
    rows = ((each.kind, each.id, _since(each), _setter(each), each.damage or each.reason) for each in found)
    printing.print_table_in_parts(("of", "id", "since", "by", "reason"), _parts(rows))


def _since(hold: StandingHold) -> str:
    return f"{hold.since:%Y-%m-%d %H:%M:%S}" if hold.since else "-"


def _setter(hold: StandingHold) -> str:
    return hold.by or (f"an application of {hold.caller}" if hold.caller else "-")


def _parts(rows: Iterator[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    while part := list(islice(rows, _ROWS)):
        yield part


def bucket(
    context: typer.Context,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Add the rule that deletes expired archives.")] = False,
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Show the rules of the archive's bucket, and warn of wrong ones.

    Example: torpor bucket --apply
    """
    services = services_of(context)
    changed = apply and _add_rule(services, Who(by, reason))
    if changed:  # at once: the settings may not be readable any more
        say = printing.warn if as_json else printing.say
        say("added: the lifecycle rule that deletes expired archives")
    found = services.archive.safeguards()
    warnings = [] if found is None else [*bucket_check.warnings(found)]
    if as_json:
        printing.print_json(
            {
                "archive": services.archive.url,
                "bucket": None if found is None else asdict(found),
                "warnings": warnings,
                "changed": changed,
            }
        )
        return
    printing.print_facts({"archive": services.archive.url, **bucket_check.facts(found)})
    for warning in warnings:
        printing.warn(f"warning: {warning}")


def _add_rule(services: Services, who: Who) -> bool:
    """False if the bucket has the rule already, or the archive is no bucket."""
    with audited(services, Act.ADD_RULE, who) as count:
        changed = services.archive.apply_lifecycle()
        count.is_unchanged = not changed
        return changed


def _set(context: typer.Context, act: Act, named: Subject, who: Who) -> HoldResult:
    services = services_of(context, identity.require)
    with audited(services, act, who, named) as count:
        done = _hold(services, named, who.by, who.reason if act is Act.HOLD else None)
        count.sessions = done.sessions
    return done


def _named(session: str | None, owner: str | None) -> Subject:
    sessions = [] if session is None else [check_session_id(session)]
    return Subject(sessions=sessions, owner=None if owner is None else check_owner(owner))


def _hold(services: Services, named: Subject, by: str, reason: str | None) -> HoldResult:
    """Set a hold, or release it with None as the reason; raises HoldNotFound if there was none."""
    if named.owner is None:
        [session] = named.sessions
        done = holding.hold_session(services, session, reason, by)
    else:
        with printing.working("looking for sessions") as status:
            done = holding.hold_owner(
                services,
                named.owner,
                reason,
                lambda held: status.update(f"{held.sessions:,} sessions, {held.objects:,} objects"),
                by=by,
            )
    if done is None:
        raise HoldNotFound(
            f"there is no legal hold of {'owner' if named.owner else 'session'} {named.owner or named.sessions[0]!r}"
        )
    return done


def _tell(held: HoldResult, verb: str, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(held)
    else:
        printing.say(f"{verb}: {held.sessions:,} sessions, {held.objects:,} objects changed")
