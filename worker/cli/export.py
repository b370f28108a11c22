"""The command by which conversations leave: as lines, as tables, and to another library."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from torpor.history.protocol import (
    FORMATS,
    RETURN_PREFIX,
    Expiry,
    InvalidArgument,
    Layout,
    PermanentError,
    SessionExists,
    SessionNotFound,
    TorporError,
    TranscriptChanged,
    check_owner,
    check_session_id,
)
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Count, Who
from torpor.worker.cli import answering, export_job, jobs, printing
from torpor.worker.cli.audited import By, Reason, audited
from torpor.worker.cli.format import Format
from torpor.worker.cli.shared import services_of
from torpor.worker.deployment import catalog, identity
from torpor.worker.deployment.services import Services
from torpor.worker.transfer import adopt, json_lines, new_folder, output_file
from torpor.worker.transfer.give_back import check_keys, give_back, returned
from torpor.worker.wake.read import Transcript, open_transcript


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
    if [bool(session), all_, owner is not None].count(True) != 1:
        raise InvalidArgument("name sessions, or an --owner, or give --all")
    if [bool(output), parquet is not None, to is not None, to_memorystore].count(True) > 1:
        raise InvalidArgument("give only one of --output, --parquet, --to and --to-memorystore")
    to = Format.MEMORYSTORE if to_memorystore else to
    if (ttl, prefix) != (None, None) and not to:
        raise InvalidArgument("--ttl and --prefix are for --to")
    expiry, who = Expiry.of_seconds(ttl), Who(by, reason)
    if owner is not None:
        if output is None or detach or rate is not None:
            raise InvalidArgument("with --owner, --output names the new folder, and --detach and --rate do not count")
        answering.answer(services_of(context, identity.require), check_owner(owner), Path(output), who)
        return
    services = services_of(context)
    named = [check_session_id(each) for each in session or []]
    target = parquet if parquet is not None else output
    shared = bool(target and all_ and not here and (detach or export_job.may_be_shared(services, target)))
    if not shared and (detach or rate is not None or (output or "").startswith("gs://")):
        raise InvalidArgument(
            "--detach, --rate and -o gs://... are for --all to the archive's bucket or below TORPOR_EXPORT_URL"
        )
    if shared and target:
        export_job.share(services, target, rate, who, tables=parquet is not None, detach=detach)
        return
    with audited(services, Act.EXPORT, who, Subject(sessions=named)) as count:
        failures = _Failures(count)
        if to:
            _return(services, named, returned(FORMATS[to], prefix), expiry, failures)
        elif parquet is not None:
            _write_tables(services, named, parquet, failures)
        else:
            lines = _lines(services, named, failures) if named else _all_lines(services, failures)
            _write(lines, None if output is None else Path(output), failures)


def _return(services: Services, named: Sequence[str], place: Layout, expiry: Expiry, failures: _Failures) -> None:
    """Give the named sessions back, or all if none is named."""
    check_keys(services, named, place)
    adopt.finish(services)
    for each in named:
        count = give_back(services, each, place, expiry.idle, printing.warn)
        failures.exported.sessions += 1
        printing.say(f"given back: {printing.one_line(place.key(each).decode())}, {count:,} messages")
    if not named:
        _give_all_back(services, place, expiry, failures)


class _Failures:
    """What could not be exported. Each is printed at once and counted, and the export goes on.

    `exported` counts the others.
    """

    def __init__(self, exported: Count) -> None:
        self.count = 0
        self.exported = exported

    def add(self, what: str, error: TorporError) -> None:
        self.count += 1
        printing.warn(f"not exported: {printing.one_line(what)}: {error}")

    def check(self, where: str = "") -> None:
        """Raises TorporError if there were any."""
        if self.count:
            raise TorporError(f"{self.count:,} sessions or shards could not be exported{where}")


def _lines(services: Services, session_ids: Iterable[str], failures: _Failures) -> Iterator[bytes]:
    for session_id in session_ids:
        with open_transcript(services, session_id) as transcript:
            yield from json_lines.export_line(session_id, transcript.elements, transcript.owner)
        failures.exported.sessions += 1


def _all_lines(services: Services, failures: _Failures) -> Iterator[bytes]:
    for session_id in catalog.everything(services, failures.add):
        try:
            yield from _lines(services, [session_id], failures)
        except SessionNotFound:
            pass  # purged
        except (PermanentError, TranscriptChanged) as error:
            failures.add(session_id, error)


def _write(lines: Iterator[bytes], output: Path | None, failures: _Failures) -> None:
    if output is None and sys.stdout.isatty():
        printing.print_json_parts(lines)
        failures.check()
        return
    if output is None:
        sys.stdout.buffer.writelines(lines)
        failures.check()
        return
    try:
        written = output_file.write(output, lines, lambda: not failures.count)
    except OSError as exc:
        raise InvalidArgument(f"{output} can't be written: {exc.strerror}") from exc
    failures.check(f"; the others are in {written}")


def _write_tables(services: Services, named: Sequence[str], target: str, failures: _Failures) -> None:
    """Write the named sessions, or all if none is named, as Parquet files."""
    day_files = export_job.parquet().DayFiles
    count = 0
    with new_folder.written(target) as folder, printing.progress(len(named) or None) as bars:
        task = bars.add_task("exporting", total=len(named) or None)
        with day_files(folder) as files:
            for session_id, transcript in _transcripts(services, named, failures):
                files.add(session_id, transcript)
                count += 1
                bars.advance(task)
    printing.say(f"exported: {count:,} sessions, {files.rows:,} rows, to {printing.one_line(target)}")
    failures.check(f"; the others are in {target}")


def _transcripts(services: Services, named: Sequence[str], failures: _Failures) -> Iterator[tuple[str, Transcript]]:
    """The named sessions, or all that can be read."""
    for session_id in named or catalog.everything(services, failures.add):
        try:
            with open_transcript(services, session_id) as transcript:
                yield session_id, transcript
            failures.exported.sessions += 1
        except (SessionNotFound, PermanentError, TranscriptChanged) as error:
            if named:
                raise
            if not isinstance(error, SessionNotFound):  # which is one that was purged
                failures.add(session_id, error)


def _give_all_back(services: Services, place: Layout, expiry: Expiry, failures: _Failures) -> None:
    """A session whose key exists is counted as given back by an earlier run."""
    given = there = 0
    with printing.progress(None) as bars:
        task = bars.add_task("giving back", total=None)
        for session_id in catalog.everything(services, failures.add):
            try:
                give_back(services, session_id, place, expiry.idle, printing.warn)
                given += 1
                failures.exported.sessions += 1
            except SessionExists:
                there += 1
            except SessionNotFound:
                pass  # purged
            except (PermanentError, TranscriptChanged) as error:
                failures.add(session_id, error)
            bars.advance(task)
    printing.say(f"given back: {given:,} sessions; {there:,} have their key already")
    failures.check()
