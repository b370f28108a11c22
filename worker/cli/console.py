"""The command that serves the web console."""

from __future__ import annotations

from typing import Annotated

import typer

from torpor.history.protocol import TransientError
from torpor.worker.cli import printing
from torpor.worker.cli.shared import connected
from torpor.worker.deployment import identity

# The console begins although one of them is down.
_PATIENCE = 10.0


def console(
    context: typer.Context,
    *,
    host: Annotated[str | None, typer.Option(help="The address; TORPOR_CONSOLE_HOST, or 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="The port; TORPOR_CONSOLE_PORT, or 8765; 0 takes a free one.")
    ] = None,
) -> None:
    """Serve pages on which people see, find, show, keep and erase sessions.

    Without settings for signing in, it listens on this machine alone, and prints an address with a token. Ctrl-C or
    SIGTERM ends it, and requests that run have five seconds more.

    Example: torpor console --port 8765
    """
    from torpor.worker.console.serving.process import serve
    from torpor.worker.console.settings import load_console_settings

    settings = load_console_settings({"host": host, "port": port})
    services = connected(context, patience=_PATIENCE)
    try:
        identity.check(services.sessions, services.archive)
    except TransientError as error:  # somebody needs the console just then; what relies on both compares them again
        printing.warn(f"Redis and the archive could not be compared yet: {error}")
    serve(connected(context), settings, printing.say)
