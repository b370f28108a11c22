"""Owner lines: a file that says whose each session is, as JSON lines or as CSV with a header."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from torpor.history.protocol import check_owner, check_session_id
from torpor.worker.errors import ImportFailed

_COLUMNS = ("session_id", "owner")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The owner that a session is to get."""

    session_id: str
    owner: str


def read(path: Path) -> Iterator[Assignment]:
    """The assignments of a file, each session once.

    Raises ImportFailed, with the number of the line, for a wrong line, and for a second owner of a session.
    """
    seen: dict[str, tuple[int, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            for number, values in _lines(path, lines):
                assignment = _checked(path, number, values)
                first, owner = seen.setdefault(assignment.session_id, (number, assignment.owner))
                if owner != assignment.owner:
                    raise ImportFailed(f"{path}, line {number}: line {first} names another owner of the session")
                if first == number:
                    yield assignment
    except UnicodeDecodeError as exc:
        raise ImportFailed(f"{path} is not UTF-8: {exc.reason}") from exc
    except OSError as exc:
        raise ImportFailed(f"{path} can't be read: {exc.strerror}") from exc


def _lines(path: Path, lines: TextIO) -> Iterator[tuple[int, dict[str, object]]]:
    """The number of each line, and what it has."""
    is_json = next((line.lstrip() for line in lines if line.strip()), "").startswith("{")
    lines.seek(0)
    if is_json:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _object(path, number, line)
        return
    rows = csv.DictReader(lines, strict=True)
    try:
        if rows.fieldnames is None or set(_COLUMNS) - set(rows.fieldnames):
            raise ImportFailed(f"{path}, line 1: expected JSON lines, or the columns session_id and owner")
        for row in rows:
            if None in row:
                raise ImportFailed(f"{path}, line {rows.line_num}: it has more values than the header has columns")
            yield rows.line_num, dict(row)
    except csv.Error as exc:
        raise ImportFailed(f"{path}, line {rows.line_num + 1}: {exc}") from exc


def _object(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ImportFailed(f"{path}, line {number}: {exc}") from exc
    if not isinstance(value, dict):
        raise ImportFailed(f"{path}, line {number}: expected an object, not {type(value).__name__}")
    return value


def _checked(path: Path, number: int, values: dict[str, object]) -> Assignment:
    session_id, owner = (values.get(name) for name in _COLUMNS)
    if isinstance(owner, int) and not isinstance(owner, bool):
        owner = str(owner)
    if not (isinstance(session_id, str) and isinstance(owner, str)):
        raise ImportFailed(f"{path}, line {number}: expected a session_id and an owner, as text")
    try:
        return Assignment(check_session_id(session_id), check_owner(owner))
    except ValueError as exc:
        raise ImportFailed(f"{path}, line {number}: {exc}") from exc
