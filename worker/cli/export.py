"""The command by which conversations leave, to files and to another library."""

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
    check_session_id,
)
from torpor.worker.cli import console
from torpor.worker.cli.format import Format
from torpor.worker.cli.shared import services_of
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.transfer import adopt, json_lines, output_file
from torpor.worker.transfer.give_back import check_keys, give_back, returned
from torpor.worker.wake.read import open_transcript


def export(
    context: typer.Context,
    session: Annotated[list[str] | None, typer.Argument(metavar="SESSION", help="Session ids.")] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Export all sessions, awake and asleep.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of standard output.")
    ] = None,
    to_memorystore: Annotated[
        bool, typer.Option("--to-memorystore", help="The older name of --to memorystore.")
    ] = False,
    to: Annotated[Format | None, typer.Option("--to", help="Write to keys that this library reads.")] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="With --to: what stands before the ids in the keys. Unless given, it is the library's own; for a "
            f"library whose keys are the bare ids it is {RETURN_PREFIX}, and '' for nothing."
        ),
    ] = None,
    ttl: Annotated[int | None, typer.Option(help="With --to: the TTL of the keys, in seconds.")] = None,
) -> None:
    """Copy sessions to a file, or back to another library.

    The sessions stay asleep. Each becomes one JSON line, which torpor import reads. An existing file is replaced as a
    whole, at the end.

    With --all, sessions that can't be read are named, the others are exported, and the exit code is 1. An existing file
    then stays as it is, and the others are in FILE.incomplete.

    Before you give sessions back with --to, remove adopt= from the history of your application: it would adopt them
    again. The copies stand below a prefix, so that no session id names a key of another program. A session whose key
    would be one of Torpor's or Celery's is refused, and so is one with a message that the format can't say.

    Example: torpor export user-42 -o user-42.jsonl

    Example: torpor export --all --to langchain-js

    """
    if bool(session) == all_:
        raise InvalidArgument("name sessions, or give --all")
    to = Format.MEMORYSTORE if to_memorystore and to is None else to
    if (to and output) or ((ttl, prefix) != (None, None) and not to):
        raise InvalidArgument("--output is for JSON lines, --ttl and --prefix are for --to")
    expiry = Expiry.of_seconds(ttl)
    services = services_of(context)
    named = [check_session_id(each) for each in session or []]
    failures = _Failures()
    if to:
        _return(services, named, returned(FORMATS[to], prefix), expiry, failures)
    elif all_:
        _write(_all_lines(services, failures), output, failures)
    else:
        _write(_lines(services, named), output, failures)


def _return(services: Services, named: Sequence[str], place: Layout, expiry: Expiry, failures: _Failures) -> None:
    """Give the named sessions back, or all if none is named."""
    check_keys(services, named, place)
    adopt.finish(services)
    for each in named:
        count = give_back(services, each, place, expiry.idle)
        console.say(f"given back: {console.one_line(place.key(each).decode())}, {count:,} messages")
    if not named:
        _give_all_back(services, place, expiry, failures)


class _Failures:
    """What could not be exported. Each is printed at once and counted, and the export goes on."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, what: str, error: TorporError) -> None:
        self.count += 1
        console.warn(f"not exported: {console.one_line(what)}: {error}")

    def check(self, where: str = "") -> None:
        """Raises TorporError if there were any."""
        if self.count:
            raise TorporError(f"{self.count:,} sessions or shards could not be exported{where}")


def _lines(services: Services, session_ids: Iterable[str]) -> Iterator[bytes]:
    for session_id in session_ids:
        with open_transcript(services, session_id) as transcript:
            yield from json_lines.export_line(session_id, transcript.elements, transcript.owner)


def _all_lines(services: Services, failures: _Failures) -> Iterator[bytes]:
    for session_id in catalog.everything(services, failures.add):
        try:
            yield from _lines(services, [session_id])
        except SessionNotFound:
            pass  # purged
        except (PermanentError, TranscriptChanged) as error:
            failures.add(session_id, error)


def _write(lines: Iterator[bytes], output: Path | None, failures: _Failures) -> None:
    if output is None and sys.stdout.isatty():
        console.print_json_parts(lines)
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


def _give_all_back(services: Services, place: Layout, expiry: Expiry, failures: _Failures) -> None:
    """A session whose key exists is counted as given back by an earlier run."""
    given = there = 0
    with console.progress(None) as bars:
        task = bars.add_task("giving back", total=None)
        for session_id in catalog.everything(services, failures.add):
            try:
                give_back(services, session_id, place, expiry.idle)
                given += 1
            except SessionExists:
                there += 1
            except SessionNotFound:
                pass  # purged
            except (PermanentError, TranscriptChanged) as error:
                failures.add(session_id, error)
            bars.advance(task)
    console.say(f"given back: {given:,} sessions; {there:,} have their key already")
    failures.check()
