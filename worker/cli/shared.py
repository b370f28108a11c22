"""Options and services that several commands use."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from torpor.history.protocol import InvalidArgument, SessionStore, TorporError
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.cli import printing
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import load_settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session id.")]

OwnerPattern = Annotated[
    str | None,
    typer.Option(metavar="REGEX", help="A regular expression whose group finds the owner in a session id: '([^:]+):'."),
]


_SPAN = re.compile(r"(\d{1,9})([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def span_of(text: str) -> timedelta:
    """The span of `90d`, `12h`, `30m` or `45s`, of seconds if it has no unit; raises InvalidArgument."""
    match = _SPAN.fullmatch(text.strip())
    if not match:
        raise InvalidArgument(f"{text!r} is not a span such as 90d, 12h, 30m or 45s")
    try:
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    except OverflowError as exc:
        raise InvalidArgument(f"{text!r} is longer than any session has been idle") from exc


def connected(context: typer.Context, *, patience: float | None = None) -> Services:
    """The same without a comparison of Redis and the archive, for a command that tells of both."""
    return connect(load_settings(context.obj), patience=patience)


def services_of(
    context: typer.Context,
    belong: Callable[[SessionStore, ArchiveStore], object] = identity.check,
    *,
    patience: float | None = None,
) -> Services:
    """The services that the settings name; options of the command line come before the environment.

    `belong` makes sure that Redis and the archive belong together: `identity.check`; `identity.require` for a command
    whose answer relies on the archive being the right one, and for its dry run; `identity.make` for one that may be the
    first use. `patience` as in `open_archive`.
    """
    services = connected(context, patience=patience)
    belong(services.sessions, services.archive)
    return services


def redis_of(context: typer.Context, *, patience: float | None = None) -> Services:
    """The same for a command that needs Redis alone, and so works while the archive is down."""
    return services_of(context, _check_recorded, patience=patience)


def _check_recorded(sessions: SessionStore, archive: ArchiveStore) -> None:
    identity.check_recorded(sessions, archive.url)


def warn_unreadable(session_id: str, error: TorporError) -> None:
    """Print a line on standard error about a session whose metadata can't be read."""
    printing.warn(f"{printing.one_line(session_id)}: {error}; see torpor doctor")


def moment_of(text: str, now: Callable[[], datetime]) -> datetime:
    """The moment of `2026-11-29`, `2026-11-29T12:00+01:00`, or of a span before `now` such as `7d`.

    A moment without an offset is in UTC. Raises InvalidArgument.
    """
    if (match := _SPAN.fullmatch(text.strip())) and match[2]:
        try:
            return now() - span_of(text)
        except OverflowError as exc:
            raise InvalidArgument(f"{text!r} is before all time") from exc
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        raise InvalidArgument(f"{text!r} is neither a span such as 7d or 12h, nor a moment such as 2026-11-29") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
