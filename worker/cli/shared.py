"""What commands have in common: options, the services they work on, the walk through the index."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Annotated

import typer

from history import SessionInfo, Status, TorporError
from worker import console
from worker.services import Services, connect, open_deployment
from worker.settings import load_settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session id.")]


def services_of(context: typer.Context, *, changes_archive: bool = False) -> Services:
    """The services that the settings name, where the command line says nothing else."""
    settings = load_settings(context.obj)
    return open_deployment(settings) if changes_archive else connect(settings)


def walk(services: Services, *, due: bool = False, quarantined: bool = False) -> Iterator[SessionInfo]:
    """Describe the sessions of the index; one that can't be described is told on standard error."""
    ids = services.sessions.sessions(quarantined=True)
    if not quarantined:
        ids = chain(services.sessions.sessions(), ids)
    while page := list(islice(ids, 500)):
        for session_id, info in zip(page, services.sessions.infos(page), strict=True):
            if isinstance(info, TorporError):
                console.err.print(f"{console.one_line(session_id)}: {info}; see torpor doctor", markup=False)
            elif info and (not due or info.status is Status.DUE):
                yield info
