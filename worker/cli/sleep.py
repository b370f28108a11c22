"""The commands that put a session to sleep and wake it up."""

from __future__ import annotations

from dataclasses import asdict

import typer

from torpor.history.protocol import SessionNotFound, check_session_id
from torpor.worker.archive import contents
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.cli import printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.shared import Json, Session, services_of
from torpor.worker.deployment import identity
from torpor.worker.sleep import attempt as archiving
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake import restore as restoring
from torpor.worker.wake.restore import RestoreOutcome


def archive(
    context: typer.Context, session: Session, *, by: By = "", reason: Reason = "", as_json: Json = False
) -> None:
    """Put a session to sleep now, even if it is not due.

    Example: torpor archive user-42
    """
    services = services_of(context, identity.make)
    with audited(services, Act.ARCHIVE, Who(by, reason), _named(session)) as count:
        with printing.working("archiving"):
            result = archiving.archive_session(services, session)
            if result.outcome is Outcome.MISSING and not contents.look(services.archive, session):
                raise SessionNotFound(f"session {session!r} is neither in Redis nor in the archive")
        count.note(int(result.outcome is Outcome.ARCHIVED))
        if as_json:
            printing.print_json({**asdict(result), "error": str(result.error) if result.error else None})
        elif result.outcome is Outcome.ARCHIVED:
            printing.say(f"archived: {result.messages:,} messages")
        elif result.outcome is Outcome.MISSING:
            printing.say("already asleep")
        result.check()


def restore(
    context: typer.Context, session: Session, *, by: By = "", reason: Reason = "", as_json: Json = False
) -> None:
    """Wake a session up.

    Its archived messages come back to Redis, before the messages that were written since.

    Example: torpor restore user-42
    """
    services = services_of(context, identity.require)
    with audited(services, Act.RESTORE, Who(by, reason), _named(session)) as count:
        with printing.working("restoring"):
            result = restoring.restore_session(services, session)
        count.note(int(result.messages > 0))
        if as_json:
            printing.print_json(result)
        elif result.outcome is RestoreOutcome.RESTORED:
            printing.say(f"restored: {result.messages:,} messages from the archive")
        elif result.outcome is RestoreOutcome.COMPLETE:
            printing.say("already awake: all of its messages are in Redis")
        for name in result.divergent:
            printing.warn(f"not restored, because a later archive replaced it: {name}")
        result.check()


def _named(session: str) -> Subject:
    return Subject(sessions=[check_session_id(session)])
