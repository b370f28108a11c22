"""Sessions as Parquet files, a folder for each day: one row for each entry that `torpor show` prints.

A row has the session, its owner and kind, the number of the message in it (`sequence`) and of the entry in that
message (`part`, above 0 only for the messages of a checkpoint), and then what was said. What can't be read is in `raw`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from torpor.history.protocol import MessageCorrupt, SessionKind, is_record
from torpor.worker.transfer.output_file import private
from torpor.worker.transfer.speech import Speech, of_element
from torpor.worker.wake.read import Transcript

SCHEMA = pa.schema(
    [
        ("session", pa.string()),
        ("owner", pa.string()),
        ("kind", pa.string()),
        ("sequence", pa.int64()),
        ("part", pa.int32()),
        ("time", pa.timestamp("ms", tz="UTC")),
        ("role", pa.string()),
        ("text", pa.string()),
        ("tool_calls", pa.list_(pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())]))),
        ("message", pa.string()),
        ("raw", pa.binary()),
    ]
)
# Rows wait in memory, of all days together, until they are a row group: large ones compress and read better.
_WAITING_BYTES = 16 * 1024 * 1024
_ROW_BYTES = 1_500  # of a row of a few words, as Python has it
_OPEN_FILES = 32


class DayFiles:
    """Writes rows to `day=YYYY-MM-DD/part-N.parquet` in a folder. Holds 16 MiB of rows, and 32 open files."""

    def __init__(self, folder: Path) -> None:
        """The folder is there, and empty."""
        self.rows = 0
        self._folder = folder
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._sizes: dict[str, int] = {}
        self._open: dict[str, _DayFile] = {}  # the one that was used last is the last
        self._parts: dict[str, int] = {}

    def add(self, session_id: str, transcript: Transcript) -> None:
        """Add the rows of a session, each to the day on which the session was last active before it was archived."""
        for row in _rows(session_id, transcript):
            day = f"{row['time']:%Y-%m-%d}"
            self._waiting.setdefault(day, []).append(row)
            size = _ROW_BYTES + 2 * len(row["message"] or "") + len(row["raw"] or b"")
            self._sizes[day] = self._sizes.get(day, 0) + size
            self.rows += 1
            while sum(self._sizes.values()) > _WAITING_BYTES:
                self._flush(max(self._sizes, key=self._sizes.__getitem__))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what waits, unless there is an error, and end all files."""
        try:
            for day in [] if error else list(self._waiting):
                self._flush(day)
        finally:
            while self._open:
                self._open.popitem()[1].close()

    def _flush(self, day: str) -> None:
        """Write the rows of a day as a row group."""
        self._sizes.pop(day)
        file = self._open.pop(day, None) or self._begin(day)
        self._open[day] = file
        file.write(self._waiting.pop(day))

    def _begin(self, day: str) -> _DayFile:
        if len(self._open) >= _OPEN_FILES:
            self._open.pop(next(iter(self._open))).close()
        folder = self._folder / f"day={day}"
        folder.mkdir(mode=0o700, exist_ok=True)
        part = self._parts[day] = self._parts.get(day, -1) + 1
        return _DayFile(folder / f"part-{part}.parquet")


class _DayFile:
    """A Parquet file that only its owner may read, and that is on the disk once it is closed."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb", opener=private)  # noqa: SIM115 - see close
        self._writer = pq.ParquetWriter(self._file, SCHEMA, compression="zstd")

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._writer.write_table(pa.Table.from_pylist(rows, SCHEMA))

    def close(self) -> None:
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _rows(session_id: str, transcript: Transcript) -> Iterator[dict[str, Any]]:
    times = chain.from_iterable(repeat(moment, count) for count, moment in transcript.moments)
    for sequence, (element, time) in enumerate(zip(transcript.elements, times, strict=True)):
        kind = transcript.kind or (SessionKind.THREAD if is_record(element) else SessionKind.CHAT)
        named = {"session": session_id, "owner": transcript.owner, "kind": str(kind)}
        for part, said in enumerate(_said(element)):
            place = {"sequence": sequence, "part": part, "time": _milliseconds(time)}
            yield named | place | said


def _said(element: bytes) -> Iterator[dict[str, Any]]:
    """What each entry of an element says; its bytes alone if it can't be read."""
    try:
        entries = list(of_element(element))
    except MessageCorrupt:
        yield {"role": None, "text": "", "tool_calls": [], "message": None, "raw": element}
        return
    yield from map(_entry, entries)


def _entry(speech: Speech) -> dict[str, Any]:
    return {
        "role": _text(speech.role or ""),
        "text": _text(speech.text),
        "tool_calls": [
            {"id": call.id and _text(call.id), "name": _text(call.name), "arguments": _text(call.arguments)}
            for call in speech.tool_calls
        ],
        "message": (speech.json or b"").decode(),
        "raw": None,
    }


def _text(text: str) -> str:
    r"""The text as Parquet can have it: a surrogate without its other half becomes `\ud83d`, as `show` prints it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _milliseconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)
