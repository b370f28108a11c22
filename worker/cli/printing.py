"""The output of the `torpor` command: tables and progress for people, JSON for programs."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

from torpor.worker import control_characters, quantities

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.status import Status

    from torpor.worker.transfer.speech import Speech

# Large text is printed in pieces of so many characters or bytes, because each step makes a copy.
_PIECE = 256 * 1024

printable = control_characters.printable
one_line = control_characters.one_line
span = quantities.span
size = quantities.size


def say(text: str) -> None:
    """Print a result to standard output."""
    typer.echo(printable(text))


def warn(text: str) -> None:
    """Print a message to standard error, so that standard output has only results."""
    typer.echo(printable(text), err=True)


@cache
def terminal(*, stderr: bool = False) -> Console:
    """Standard output or standard error as rich sees it; only some commands load rich."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on one line of standard output: moments in ISO 8601, spans in seconds."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    # json.dumps escapes only characters below U+0020. Outside of strings, JSON has none of these characters.
    unicode = sys.stdout.encoding.lower().startswith("utf")
    text = json.dumps(plain, ensure_ascii=not unicode, default=_plain)
    sys.stdout.write(_escaped(text) + "\n")


def print_json_parts(parts: Iterable[bytes]) -> None:
    """Parts of a line that is JSON already, as they are, but with control characters escaped as JSON does it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for part in parts:
        for at in range(0, len(part), _PIECE):
            # Outside of strings JSON allows only spaces, and a tab and breaks of lines, which are spaces here.
            text = decoder.decode(part[at : at + _PIECE]).replace("\r", " ")
            sys.stdout.buffer.write(_escaped(text).encode())


def _escaped(json_text: str) -> str:
    return control_characters.CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", json_text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of text cells. No cell is cut or wrapped, whatever the terminal's width: people copy ids from it."""
    lines = [list(row) for row in rows]
    widths = _widths([0] * len(columns), [columns, *lines])
    _print_lines([columns], widths, bold=True)
    _print_lines(lines, widths)


def print_table_in_parts(columns: Sequence[str], parts: Iterable[Sequence[Sequence[str]]]) -> None:
    """As `print_table`, but each part is printed as soon as it is there, and columns grow from part to part."""
    widths: Sequence[int] = [0] * len(columns)
    head = [columns]
    for part in parts:
        widths = _widths(widths, [*head, *part])
        _print_lines(head, widths, bold=True)
        _print_lines(part, widths)
        sys.stdout.flush()
        head = []
    _print_lines(head, _widths(widths, head), bold=True)


def _widths(least: Sequence[int], rows: Sequence[Sequence[str]]) -> list[int]:
    """How wide each column is for these cells."""
    from rich.cells import cell_len

    columns = zip(*rows, strict=True) if rows else [()] * len(least)
    return [
        max([width, *(cell_len(one_line(cell)) for cell in column)])
        for width, column in zip(least, columns, strict=True)
    ]


def _print_lines(rows: Iterable[Sequence[str]], widths: Sequence[int], *, bold: bool = False) -> None:
    from rich.cells import cell_len

    for row in rows:
        cells = [one_line(cell) for cell in row]
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True))
        typer.secho("  ".join(padded).rstrip(), bold=bold or None)


def print_facts(facts: Mapping[str, str]) -> None:
    """A two-column table of names and values."""
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{typer.style(name.ljust(width), bold=True)}  {one_line(value)}")


def print_transcript(speeches: Iterable[Speech]) -> None:
    """A conversation for people: the speakers, their texts as they were written, and the calls of tools."""
    for each in speeches:
        _print_speech(each)
        del each  # it may be large, and the next one comes beside what is kept


def _print_speech(speech: Speech) -> None:
    typer.secho(one_line(speech.speaker), bold=True, fg="cyan")
    if speech.text:
        typer.echo("  ", nl=False)
        for at in range(0, len(speech.text), _PIECE):
            typer.echo(printable(speech.text[at : at + _PIECE]).replace("\n", "\n  "), nl=False)
        typer.echo()
    for kind in speech.kinds:
        typer.secho(f"  [{one_line(kind)}]", dim=True)
    for call in speech.calls:
        typer.secho(f"  -> {one_line(call)}", fg="yellow")


@contextmanager
def progress(total: int | None) -> Iterator[Progress]:
    """Progress bars on standard error, so that standard output has only results; `total` is None if it is unknown."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    err = terminal(stderr=True)
    with Progress(*columns, console=err, disable=total == 0, transient=not err.is_terminal) as bars:
        yield bars


def working(what: str) -> Status:
    """A spinner on standard error."""
    return terminal(stderr=True).status(what)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)
