"""Options and services that several commands use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from torpor.history.protocol import SessionStore, TorporError
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.cli import printing
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import load_settings
from torpor.worker.errors import DocumentDamaged

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session id.")]

OwnerPattern = Annotated[
    str | None,
    typer.Option(metavar="REGEX", help="A regular expression whose group finds the owner in a session id: '([^:]+):'."),
]


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


def warn_of_look_alikes(services: Services, owner: str) -> None:
    """Print a line on standard error for each owner whose name is easily taken for this one."""
    from torpor.worker.access import look_alikes  # a command that names no owner needs none of it

    for each in look_alikes.find(services, owner):
        printing.warn(f"also: {printing.one_line(str(each))}: another owner, whose name is similar")


def warn_damaged(damaged: DocumentDamaged) -> None:
    """Print a line on standard error about a document that a list leaves out."""
    printing.warn(printing.one_line(damaged.left_out))


def warn_unreadable(session_id: str, error: TorporError) -> None:
    """Print a line on standard error about a session whose metadata can't be read."""
    printing.warn(f"{printing.one_line(session_id)}: {error}; see torpor doctor")
