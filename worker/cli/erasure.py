"""The command that removes a session for good."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from history import SessionNotFound, check_session_id
from worker import console
from worker import purge as purging
from worker.cli.shared import Json, Session, services_of


def purge(
    context: typer.Context,
    session: Session,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a session for good, from Redis and from the archive.

    Example: torpor purge user-42 --dry-run
    """
    services = services_of(context, changes_archive=not dry_run)
    found = purging.survey(services, check_session_id(session))
    if not (found.in_redis or found.objects):
        raise SessionNotFound(f"session {session!r} is neither in Redis nor in the archive")
    what = f"{found.live_messages:,} messages in Redis, {found.objects:,} objects ({console.size(found.bytes)})"
    if not dry_run:
        if not yes:
            typer.confirm(f"Remove {console.one_line(session)} for good: {what}?", abort=True, err=True)
        with console.err.status("purging"):
            purging.purge_session(services, session)
    if as_json:
        console.print_json({**asdict(found), "dry_run": dry_run})
    else:
        console.out.print(f"{'would purge' if dry_run else 'purged'}: {what}", markup=False)
