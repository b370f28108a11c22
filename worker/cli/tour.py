"""The command that shows how sessions sleep and wake up, with its own server and archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torpor.worker.errors import SettingsError


def demo(
    conversations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Play these conversations instead of the bundled sample.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="Use a real Redis instead of the built-in one. Its other keys stay untouched.")
    ] = None,
    archive_url: Annotated[str | None, typer.Option(help="Archive there instead of in a temporary folder.")] = None,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the temporary folder, with the transcripts and the worker's log.")
    ] = False,
    console: Annotated[
        bool, typer.Option("--console", help="Show the sessions in a browser meanwhile, and go on until Ctrl-C.")
    ] = False,
) -> None:
    """Watch sessions go to sleep and wake up, on a built-in Redis and a local folder.

    Example: torpor demo --conversations conversations.jsonl --keep
    """
    try:
        from torpor.worker.cli.demo import run
    except ImportError as exc:
        raise SettingsError(f"the demo needs more packages: pip install 'torpor[demo]' ({exc})") from exc
    run(conversations, redis_url, archive_url, keep=keep, console=console)
