"""Options and services that several commands use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated

import typer

from torpor.history.protocol import InvalidArgument, SessionInfo, SessionStore, Status, TorporError
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.cli import console
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
    context: typer.Context, belong: Callable[[SessionStore, ArchiveStore], object] = identity.check
) -> Services:
    """The services that the settings name; options of the command line come before the environment.

    `belong` makes sure that Redis and the archive belong together: `identity.check`; `identity.require` for a command
    whose answer relies on the archive being the right one, and for its dry run; `identity.make` for one that may be the
    first use.
    """
    services = connected(context)
    belong(services.sessions, services.archive)
    return services


def redis_of(context: typer.Context) -> Services:
    """The same for a command that needs Redis alone, and so works while the archive is down."""
    return services_of(context, lambda sessions, archive: identity.check_recorded(sessions, archive.url))


def walk(services: Services, *, due: bool = False, quarantined: bool = False) -> Iterator[SessionInfo]:
    """Describe the sessions of the index; print a line on standard error for each damaged one."""
    from torpor.worker.deployment import catalog

    ids = services.sessions.sessions(quarantined=True) if quarantined else catalog.live(services)
    for session_id, info in catalog.described(services, ids):
        if isinstance(info, TorporError):
            console.warn(f"{console.one_line(session_id)}: {info}; see torpor doctor")
        elif info and (not due or info.status is Status.DUE):
            yield info
