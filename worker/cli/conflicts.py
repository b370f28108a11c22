"""The command that separates what two owners have under one session id."""

from __future__ import annotations

import typer

from torpor.history.protocol import SessionNotFound, check_session_id
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.cli import printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import Json, Session, services_of
from torpor.worker.deployment import identity
from torpor.worker.ops import conflicts


def separate(
    context: typer.Context, session: Session, *, by: By = "", reason: Reason = "", as_json: Json = False
) -> None:
    """Give what others have written under a session's id an id of its own.

    The first owner in the archive keeps the id. What somebody else has written to it while the session slept, and what
    the archive of an older version has of others, gets a session of its own, so that it can be shown, exported and
    purged alone. It is awake or asleep as before.
    The command can be run again. torpor sessions --conflicts lists both sides.

    Example: torpor separate user-42
    """
    services = services_of(context, identity.require)
    with audited(services, Act.SEPARATE, Who(by, reason), Subject(sessions=[check_session_id(session)])) as count:
        with printing.working("separating"):
            sides = conflicts.separate(services, session)
        count.sessions = len(sides)
        if as_json:
            printing.print_json(sides)
        else:
            for side in sides:
                printing.say(f"separated: {side.messages:,} messages are now session {printing.one_line(side.session)}")
        if not sides:
            raise SessionNotFound(f"nothing of others is under the id of session {session!r}")
