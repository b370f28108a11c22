"""The commands of `torpor` by name. The module of a command is imported when the command is called."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from torpor.worker.audit.act import LOOKS, Act, NoEntry
from torpor.worker.cli import processes

_HELP = """
Chat sessions that sleep in Cloud Storage and wake up in Memorystore.

Exit codes: 0 done, 1 failed, or a purge is blocked, 2 wrong usage, settings or input, 3 no such session, owner, purge
or hold, 4 Redis, the archive or a worker is in the way for now: try again, 130 interrupted by Ctrl-C: run it again.
"""
_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

_SERVES = NoEntry("It serves pages, whose acts have entries of their own.")
_PRINTS = NoEntry("It opens neither Redis nor the archive.")
_PLAYS = NoEntry("It has sessions of its own.")


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its module and function, the first line of that function's help, and its acts in the audit trail."""

    where: str
    summary: str
    acts: tuple[Act, ...] | NoEntry


# By name, in the order of --help.
COMMANDS = {
    "status": Command(
        "status.status", "Show what must be looked at, who works, and how many sessions there are.", LOOKS
    ),
    "top": Command("top.top", "Show the figures of the deployment live.", LOOKS),
    "deployment": Command(
        "deployment.deployment",
        "Show whether Redis and the archive belong together, or make them.",
        (Act.MOVE_ARCHIVE, Act.RECOVER, Act.FORK),
    ),
    "sessions": Command("sessions.sessions", "List sessions: those in Redis, those asleep, or an owner's.", LOOKS),
    "show": Command("look.show", "Print the transcript of a session without waking it.", (Act.SHOW,)),
    "sweep": Command("sweep.sweep", "Archive what is due in this process, without Celery.", (Act.SWEEP,)),
    "archive": Command("sleep.archive", "Put a session to sleep now, even if it is not due.", (Act.ARCHIVE,)),
    "restore": Command("sleep.restore", "Wake a session up.", (Act.RESTORE,)),
    "purge": Command("erasure.purge", "Remove sessions for good, and write a receipt.", (Act.PURGE,)),
    "purge-status": Command("erasure.purge_status", "Show the state of a purge, or of all unfinished purges.", LOOKS),
    "receipts": Command("erasure.receipts", "List the receipts of purges, or show one.", LOOKS),
    "hold": Command("retention.hold", "Put a session or an owner under a legal hold.", (Act.HOLD,)),
    "unhold": Command("retention.unhold", "Release the legal hold of a session or an owner.", (Act.UNHOLD,)),
    "holds": Command("retention.holds", "List who is under a legal hold, since when, why, and by whom.", LOOKS),
    "audit": Command("audit.audit", "List what people have done with sessions, oldest first.", LOOKS),
    "bucket": Command(
        "retention.bucket", "Show the rules of the archive's bucket, and warn of wrong ones.", (Act.ADD_RULE,)
    ),
    "events": Command("look.events", "List what happened to sessions, oldest first.", LOOKS),
    "console": Command(
        "console.console", "Serve pages on which people see, find, show, keep and erase sessions.", _SERVES
    ),
    "serve-metrics": Command(
        "monitoring.serve_metrics", "Serve /metrics, /livez and /readyz until SIGTERM or Ctrl-C.", LOOKS
    ),
    "quarantine": Command("repair.quarantine", "List the sessions that could not be archived.", LOOKS),
    "requeue": Command("repair.requeue", "Take sessions out of quarantine and make them due.", (Act.REQUEUE,)),
    "doctor": Command(
        "repair.doctor", "Find and repair damaged sessions and index entries.", (Act.REPAIR, Act.EXAMINE)
    ),
    "import": Command("transfer.import_", "Write conversations from a file to Redis.", (Act.IMPORT,)),
    "export": Command(
        "export.export", "Copy sessions to a file, to tables, or back to another library.", (Act.EXPORT,)
    ),
    "sql": Command("sql.sql", "Print the SQL that makes the archive a view of a query engine.", _PRINTS),
    "jobs": Command("jobs.jobs", "List the open jobs, show one, or cancel one.", (Act.RESUME_JOB, Act.CANCEL_JOB)),
    "compress": Command(
        "compressing.compress", "Compress the messages that are in Redis, or make them plain.", (Act.COMPRESS,)
    ),
    "adopt": Command(
        "transfer.adopt", "Take over sessions that another library has written to this Redis.", (Act.ADOPT,)
    ),
    "assign-owner": Command(
        "owners.assign_owner", "Give sessions that have no owner one, awake or asleep.", (Act.ASSIGN_OWNER,)
    ),
    "separate": Command(
        "conflicts.separate", "Give what others have written under a session's id an id of its own.", (Act.SEPARATE,)
    ),
    "scripts": Command("scripts.scripts", "Print the Lua scripts, for programs in other languages.", _PRINTS),
    "demo": Command(
        "tour.demo", "Watch sessions go to sleep and wake up, on a built-in Redis and a local folder.", _PLAYS
    ),
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


class _Checked(TyperCommand):
    """A command that refuses options which have no effect beside the others."""

    def invoke(self, ctx: Any) -> Any:
        """Call the function of the command; raises InvalidArgument."""
        check_usage(ctx)
        return super().invoke(ctx)


def check_usage(context: Any) -> None:
    """Raise InvalidArgument if a command line, which is parsed, has an option that does not count."""
    from torpor.worker.cli.usage import USAGES  # loads the library, which --help does without

    before = [f"--{name.replace('_', '-')}" for name, value in context.obj.items() if value is not None]
    USAGES[context.command.name].check(_given(context), before)


def _given(context: Any) -> dict[str, str]:
    """The names and values of what was given to a command on its command line."""
    values = {each: context.params[each.name] for each in context.command.params if _is_given(context, each.name)}
    return {name_of(each): str(value) for each, value in values.items()}


def _is_given(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE" and context.params[name] not in (None, (), [])


def name_of(parameter: Any) -> str:
    """The name of an option, `--all`, or of an argument, `SESSION`, as the table of usages has it."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper()).strip("[].")
    return next(str(name) for name in parameter.opts if name.startswith("--"))


def _load(name: str) -> Any:
    module, _, function = COMMANDS[name].where.partition(".")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    callback = getattr(import_module(f"torpor.worker.cli.{module}"), function)
    alone.command(name, cls=_Checked, context_settings=_HELP_OPTIONS)(callback)
    return get_command(alone)


for _function in (processes.worker, processes.beat):
    app.command(cls=processes.CeleryCommand, short_help=_function.__doc__)(_function)
for _name, _command in COMMANDS.items():
    app.command(_name, cls=_Deferred, short_help=_command.summary)(lambda: None)
