"""The commands of `torpor` by name. The module of a command is imported when the command is called."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from torpor.worker.cli import processes

_HELP = """
Chat sessions that sleep in Cloud Storage and wake up in Memorystore.

Exit codes: 0 done, 1 failed, or a purge is blocked, 2 wrong usage, settings or input, 3 no such session, owner, purge
or hold, 4 Redis, the archive or a worker is in the way for now: try again, 130 interrupted by Ctrl-C: run it again.
"""
_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

# Name -> module and function, and the first line of the function's help, in the order of --help.
COMMANDS = {
    "status": ("status.status", "Show what must be looked at, who works, and how many sessions there are."),
    "top": ("top.top", "Show the figures of the deployment live."),
    "deployment": ("deployment.deployment", "Show whether Redis and the archive belong together, or make them."),
    "sessions": ("sessions.sessions", "List sessions: those in Redis, those asleep, or an owner's."),
    "show": ("look.show", "Print the transcript of a session without waking it."),
    "sweep": ("sweep.sweep", "Archive what is due in this process, without Celery."),
    "archive": ("sleep.archive", "Put a session to sleep now, even if it is not due."),
    "restore": ("sleep.restore", "Wake a session up."),
    "purge": ("erasure.purge", "Remove sessions for good, and write a receipt."),
    "purge-status": ("erasure.purge_status", "Show the state of a purge, or of all unfinished purges."),
    "receipts": ("erasure.receipts", "List the receipts of purges, or show one."),
    "hold": ("retention.hold", "Put a session or an owner under a legal hold."),
    "unhold": ("retention.unhold", "Release the legal hold of a session or an owner."),
    "holds": ("retention.holds", "List who is under a legal hold, since when, why, and by whom."),
    "audit": ("audit.audit", "List what people have done with sessions by this command, oldest first."),
    "bucket": ("retention.bucket", "Show the rules of the archive's bucket, and warn of wrong ones."),
    "events": ("look.events", "List what happened to sessions, oldest first."),
    "console": ("console.console", "Serve pages on which people see, find, show, keep and erase sessions."),
    "serve-metrics": ("monitoring.serve_metrics", "Serve /metrics, /livez and /readyz until SIGTERM or Ctrl-C."),
    "quarantine": ("repair.quarantine", "List the sessions that could not be archived."),
    "requeue": ("repair.requeue", "Take sessions out of quarantine and make them due."),
    "doctor": ("repair.doctor", "Find and repair damaged sessions and index entries."),
    "import": ("transfer.import_", "Write conversations from a file to Redis."),
    "export": ("export.export", "Copy sessions to a file, to tables, or back to another library."),
    "sql": ("sql.sql", "Print the SQL that makes the archive a view of a query engine."),
    "jobs": ("jobs.jobs", "List the open jobs, show one, or cancel one."),
    "compress": ("compressing.compress", "Compress the messages that are in Redis, or make them plain."),
    "adopt": ("transfer.adopt", "Take over sessions that another library has written to this Redis."),
    "assign-owner": ("owners.assign_owner", "Give sessions that have no owner one, awake or asleep."),
    "separate": ("conflicts.separate", "Give what others have written under a session's id an id of its own."),
    "scripts": ("scripts.scripts", "Print the Lua scripts, for programs in other languages."),
    "demo": ("tour.demo", "Watch sessions go to sleep and wake up, on a built-in Redis and a local folder."),
}

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=_HELP_OPTIONS
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        from importlib.metadata import version  # loads the email package

        typer.echo(f"torpor {version('torpor')}")
        raise typer.Exit


@app.callback(help=_HELP)
def _settings(
    context: typer.Context,
    redis_url: Annotated[str | None, typer.Option(help="Overrides TORPOR_REDIS_URL.")] = None,
    archive_url: Annotated[str | None, typer.Option(help="Overrides TORPOR_ARCHIVE_URL.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Overrides TORPOR_NAMESPACE.")] = None,
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit."),
    ] = False,
) -> None:
    context.obj = {"redis_url": redis_url, "archive_url": archive_url, "namespace": namespace}


class _Deferred(TyperCommand):
    """A command whose function is imported when it is called; until then, only its name and summary are known."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return _load(self.name or "").make_context(info_name, args, parent, **extra)


def _load(name: str) -> Any:
    module, _, function = COMMANDS[name][0].partition(".")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    callback = getattr(import_module(f"torpor.worker.cli.{module}"), function)
    alone.command(name, context_settings=_HELP_OPTIONS)(callback)
    return get_command(alone)


for _function in (processes.worker, processes.beat):
    app.command(cls=processes.CeleryCommand, short_help=_function.__doc__)(_function)
for _name, (_where, _summary) in COMMANDS.items():
    app.command(_name, cls=_Deferred, short_help=_summary)(lambda: None)
