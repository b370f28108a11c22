"""The command by which conversations leave: as lines, as tables, and to another library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torpor.history.protocol import (
    FORMATS,
    RETURN_PREFIX,
    Expiry,
    InvalidArgument,
    check_owner,
    check_session_id,
)
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.cli import answering, export_job, jobs
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.export_here import Exporting
from torpor.worker.cli.format import Format
from torpor.worker.cli.shared import services_of
from torpor.worker.deployment import identity
from torpor.worker.transfer.give_back import returned


def export(
    context: typer.Context,
    session: Annotated[list[str] | None, typer.Argument(metavar="SESSION", help="Session ids.")] = None,
    *,
    owner: Annotated[
        str | None, typer.Option(help="Export all sessions of an owner to the folder --output, with a manifest.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Export all sessions, awake and asleep.")] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write to this file, or with --all to files in gs://bucket/prefix."
        ),
    ] = None,
    parquet: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Write Parquet files to this new folder, or to gs://bucket/prefix."),
    ] = None,
    to: Annotated[Format | None, typer.Option("--to", help="Write to keys that this library reads.")] = None,
    to_memorystore: Annotated[
        bool, typer.Option("--to-memorystore", help="The older name of --to memorystore.")
    ] = False,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="With --to: what stands before the ids in the keys. Unless given, it is the library's own; for a "
            f"library whose keys are the bare ids it is {RETURN_PREFIX}, and '' for nothing."
        ),
    ] = None,
    ttl: Annotated[int | None, typer.Option(help="With --to: the TTL of the keys, in seconds.")] = None,
    here: jobs.Here = False,
    detach: jobs.Detach = False,
    rate: jobs.Rate = None,
    by: By = "",
    reason: Reason = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was exported as JSON; the sessions must go elsewhere.")
    ] = False,
) -> None:
    """Copy sessions to a file, to tables, or back to another library.

    The sessions stay asleep. Each becomes one JSON line, which torpor import reads. An existing file is replaced as a
    whole, at the end.

    With --all, sessions that can't be read are named, the others are exported, and the exit code is 1. An existing file
    then stays as it is, and the others are in FILE.incomplete.

    With --parquet, each message becomes a row of a Parquet file, in a folder for each day. Nothing may be at the place
    yet. All files appear there at the end.

    An export of all sessions to a prefix in the archive's own bucket is a job, in which the workers take part, unless
    you say --here. Its files appear one after the other, and _SUCCESS when all are there.

    With --owner, --output is a new folder. It gets the sessions as JSON lines and as text, and a manifest of all that
    a purge of the owner would find, with counts and SHA-256. The same command continues one that was interrupted.

    Before you give sessions back with --to, remove adopt= from the history of your application: it would adopt them
    again. The copies stand below a prefix, so that no session id names a key of another program. A session whose key
    would be one of Torpor's or Celery's is refused, and so is one with a message that the format can't say.

    Example: torpor export user-42 -o user-42.jsonl

    Example: torpor export --owner ann -o answers/ann --by dpo@example.com --reason "request 17"

    Example: torpor export --all --parquet gs://my-bucket/tables/monday

    Example: torpor export --all --to langchain-js

    """
    to = Format.MEMORYSTORE if to_memorystore else to
    expiry, who = Expiry.of_seconds(ttl), Who(by, reason)
    if owner is not None and output is not None:
        services = services_of(context, identity.require)
        answering.answer(services, check_owner(owner), Path(output), who, as_json=as_json)
        return
    services = services_of(context)
    named = [check_session_id(each) for each in session or []]
    target = parquet if parquet is not None else output
    if target and all_ and not here and (detach or export_job.may_be_shared(services, target)):
        export_job.share(services, target, rate, who, tables=parquet is not None, detach=detach, as_json=as_json)
        return
    if rate is not None or (output or "").startswith("gs://"):
        raise InvalidArgument("--rate and -o gs://... are for --all to the archive's bucket or below TORPOR_EXPORT_URL")
    with audited(services, Act.EXPORT, who, Subject(sessions=named)) as count:
        exporting = Exporting(services, named, count, as_json=as_json)
        if to:
            exporting.to_library(to, returned(FORMATS[to], prefix), expiry.idle)
        elif parquet is not None:
            exporting.to_tables(parquet)
        else:
            exporting.to_lines(None if output is None else Path(output))
