"""The commands that import and export conversations, from and to files and other libraries."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from torpor.history.protocol import (
    LAYOUTS,
    Expiry,
    InvalidArgument,
    PermanentError,
    SessionExists,
    SessionNotFound,
    TorporError,
)
from torpor.history.protocol import check_session_id as check
from torpor.worker.cli import console
from torpor.worker.cli.shared import Json, services_of
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.transfer import adopt as adopting
from torpor.worker.transfer import json_lines
from torpor.worker.transfer.give_back import give_back
from torpor.worker.wake.read import read_transcript

_Ttl = Annotated[int | None, typer.Option(help="Idle timeout of the sessions, in seconds.")]


class Format(StrEnum):
    """Sessions of langchain-google-memorystore-redis, or of langchain-community's RedisChatMessageHistory."""

    MEMORYSTORE = "memorystore"
    COMMUNITY = "community"


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help='Lines of {"session_id", "messages": [...]}.')],
    *,
    ttl: _Ttl = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the file, and count the new sessions.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write conversations from a file to Redis.

    Sessions that exist are skipped, so the command can be run again.

    Example: torpor import conversations.jsonl --ttl 3600
    """
    total = json_lines.count(file)
    expiry = Expiry.of_seconds(ttl)
    with console.progress(total) as bars:
        task = bars.add_task("checking" if dry_run else "importing", total=total)
        result = json_lines.import_file(
            services_of(context, changes_archive=not dry_run),
            file,
            expiry=expiry,
            dry_run=dry_run,
            progress=lambda: bars.advance(task),
        )
    if as_json:
        console.print_json({**asdict(result), "dry_run": dry_run})
        return
    verb = "would import" if dry_run else "imported"
    console.say(
        f"{verb}: {result.sessions:,} sessions, {result.messages:,} messages; {result.skipped:,} sessions exist already"
    )


def adopt(
    context: typer.Context,
    *,
    match: Annotated[
        str,
        typer.Option(
            metavar="PATTERN", help="Adopt these session ids, with the wildcards of Redis's KEYS: user-*, or *."
        ),
    ],
    layout: Annotated[Format, typer.Option("--format", help="The library that has written them.")],
    prefix: Annotated[
        str | None, typer.Option(help="The prefix of the keys, if it is not that library's default.")
    ] = None,
    ttl: Annotated[
        int | None, typer.Option(help="Idle timeout in seconds. Without it, the rest of a key's TTL counts.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be adopted.")] = False,
    as_json: Json = False,
) -> None:
    """Take over sessions that another library has written to this Redis.

    It can be run again, and while that library goes on writing. Change your application first, so that its history
    has adopt=: adopted messages go to the end of a session.

    Example: torpor adopt --match 'user-*' --format memorystore --dry-run
    """
    theirs = LAYOUTS[layout]
    with console.progress(None) as bars:
        task = bars.add_task("looking" if dry_run else "adopting", total=None)
        result = adopting.adopt(
            services_of(context),
            theirs if prefix is None else replace(theirs, prefix=prefix),
            match,
            expiry=Expiry.of_seconds(ttl),
            dry_run=dry_run,
            progress=lambda: bars.advance(task),
        )
    if as_json:
        console.print_json({**asdict(result), "dry_run": dry_run})
        return
    verb = "would adopt" if dry_run else "adopted"
    console.say(f"{verb}: {result.sessions:,} sessions, {result.messages:,} messages")
    for reason, left in result.left.items():
        console.say(f"not adopted: {left.count:,}, such as {console.one_line(left.example)}: {reason}")


def export(
    context: typer.Context,
    session: Annotated[list[str] | None, typer.Argument(metavar="SESSION", help="Session ids.")] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Export all sessions, awake and asleep.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of standard output.")
    ] = None,
    to_memorystore: Annotated[
        bool, typer.Option("--to-memorystore", help="Write to the keys that langchain-google-memorystore-redis reads.")
    ] = False,
    ttl: Annotated[int | None, typer.Option(help="With --to-memorystore: the TTL of the keys, in seconds.")] = None,
) -> None:
    """Copy sessions to a file, or back to another library.

    The sessions stay asleep. Each becomes one JSON line, which torpor import reads. Before you give sessions back with
    --to-memorystore, remove adopt= from the history of your application: it would adopt them again.

    Example: torpor export user-42 -o user-42.jsonl

    Example: torpor export --all --to-memorystore

    """
    if bool(session) == all_:
        raise InvalidArgument("name sessions, or give --all")
    if (to_memorystore and output) or (ttl is not None and not to_memorystore):
        raise InvalidArgument("--output is for JSON lines, --ttl for --to-memorystore")
    expiry = Expiry.of_seconds(ttl)
    services = services_of(context)
    named = [check(each) for each in session or []]
    if not to_memorystore:
        _write(_lines(services, named or catalog.everything(services), skip_gone=all_), output)
        return
    adopting.finish(services)
    if all_:
        _give_all_back(services, expiry)
    else:
        for each in named:
            count = give_back(services, each, expiry.idle)
            console.say(f"given back: {console.one_line(each)}, {count:,} messages")


def _lines(services: Services, session_ids: Iterable[str], *, skip_gone: bool) -> Iterator[bytes]:
    for session_id in session_ids:
        try:
            elements = read_transcript(services, session_id)
        except SessionNotFound:
            if not skip_gone:
                raise
            continue
        yield json_lines.export_line(session_id, elements)


def _write(lines: Iterator[bytes], output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.writelines(lines)
        return
    first = list(islice(lines, 1))  # if the first one fails, the file stays as it was
    try:
        with output.open("wb") as out:
            out.writelines(chain(first, lines))
    except OSError as exc:
        raise InvalidArgument(f"{output} can't be written: {exc.strerror}") from exc


def _give_all_back(services: Services, expiry: Expiry) -> None:
    """A session whose key exists is counted as given back by an earlier run."""
    given = there = 0
    failed: list[PermanentError] = []
    with console.progress(None) as bars:
        task = bars.add_task("giving back", total=None)
        for session_id in catalog.everything(services):
            try:
                give_back(services, session_id, expiry.idle)
                given += 1
            except SessionExists:
                there += 1
            except SessionNotFound:
                pass  # purged
            except PermanentError as error:
                failed.append(error)
                console.warn(str(error))
            bars.advance(task)
    console.say(f"given back: {given:,} sessions; {there:,} have their key already")
    if failed:
        raise TorporError(f"{len(failed):,} sessions could not be given back")
