"""The `torpor` command, over the same functions as the tasks."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from torpor.history.protocol import InvalidArgument, SessionNotFound, TorporError, TransientError
from torpor.worker.cli import console, erasure, keeping, look, repair, sleep, tour, transfer
from torpor.worker.errors import HoldNotFound, ImportFailed, PurgeNotFound, SettingsError

EXIT_CODES = """
Exit codes: 0 done, 1 failed, or a purge is blocked, 2 wrong usage, settings or input, 3 no such session, purge or hold,
4 Redis, the archive or a worker is in the way for now: try again.
"""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(help="Chat sessions that sleep in Cloud Storage and wake up in Memorystore.\n" + EXIT_CODES)
def _settings(
    context: typer.Context,
    redis_url: Annotated[str | None, typer.Option(help="Instead of TORPOR_REDIS_URL.")] = None,
    archive_url: Annotated[str | None, typer.Option(help="Instead of TORPOR_ARCHIVE_URL.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Instead of TORPOR_NAMESPACE.")] = None,
) -> None:
    context.obj = {"redis_url": redis_url, "archive_url": archive_url, "namespace": namespace}


# In the order of --help.
app.command()(look.status)
app.command()(look.sessions)
app.command()(look.show)
app.command()(sleep.archive)
app.command()(sleep.restore)
app.command()(erasure.purge)
app.command()(erasure.purge_status)
app.command()(erasure.receipts)
app.command()(keeping.hold)
app.command()(keeping.unhold)
app.command()(keeping.bucket)
app.command()(look.events)
app.command()(repair.quarantine)
app.command()(repair.requeue)
app.command()(repair.doctor)
app.command("import")(transfer.import_)
app.command()(transfer.export)
app.command()(transfer.adopt)
app.command()(tour.demo)


def main() -> None:
    """Run the command; turn errors into a line on standard error and an exit code."""
    try:
        app()
    except (SettingsError, InvalidArgument, ImportFailed) as error:
        _fail(error, 2)
    except (SessionNotFound, PurgeNotFound, HoldNotFound) as error:
        _fail(error, 3)
    except TransientError as error:
        _fail(error, 4)
    except TorporError as error:
        _fail(error, 1)


def _fail(error: TorporError, code: int) -> NoReturn:
    console.err.print(f"torpor: {console.printable(str(error))}", markup=False, soft_wrap=True)
    sys.exit(code)
