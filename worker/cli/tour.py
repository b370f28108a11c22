"""The command that shows the way of a session, with a server and an archive of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torpor.worker.errors import SettingsError


def demo(
    conversations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Conversations to play instead of the bundled sample.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A real Redis instead of the embedded one; its other keys are not touched.")
    ] = None,
    archive_url: Annotated[str | None, typer.Option(help="Instead of a folder of the demo's own.")] = None,
) -> None:
    """Show the way of a session, from live to archived and back, with nothing installed but Python.

    Example: torpor demo --conversations conversations.jsonl
    """
    try:
        from torpor.worker.cli.demo import run
    except ImportError as exc:
        raise SettingsError(f"the demo needs more packages: pip install 'torpor[demo]' ({exc})") from exc
    run(conversations, redis_url, archive_url)
