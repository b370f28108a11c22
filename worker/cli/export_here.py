"""How the command exports in its own process: as lines, as tables, and to another library's keys."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from torpor.history.protocol import (
    InvalidArgument,
    Layout,
    PermanentError,
    SessionExists,
    SessionNotFound,
    TorporError,
    TranscriptChanged,
)
from torpor.worker.audit.trail import Count
from torpor.worker.cli import export_job, printing
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.transfer import adopt, json_lines, new_folder, output_file
from torpor.worker.transfer.give_back import check_keys, give_back
from torpor.worker.wake.read import Transcript, open_transcript


@dataclass
class Exporting:
    """An export of the `named` sessions, or of all if none is named.

    `count` has how many sessions were exported, and `failed` how many sessions or shards could not be. Each of these is
    printed at once, and the export goes on. The result is printed for people, or with `as_json` for programs.
    """

    services: Services
    named: Sequence[str]
    count: Count
    as_json: bool
    failed: int = 0

    def to_lines(self, output: Path | None) -> None:
        """Write JSON lines to a file, or to standard output. Raises InvalidArgument for a file that can't be written.

        If all were to be exported and some could not be, raises TorporError, here and below.
        """
        lines = self._lines(self.named) if self.named else self._all_lines()
        if output is None:
            _print_lines(lines)
            self._check()
            return
        try:
            written = output_file.write(output, lines, lambda: not self.failed)
        except OSError as exc:
            raise InvalidArgument(f"{output} can't be written: {exc.strerror}") from exc
        self._tell(str(written))
        self._check(f"; the others are in {written}")

    def to_tables(self, target: str) -> None:
        """Write Parquet files to a new folder, or to Cloud Storage."""
        day_files = export_job.parquet().DayFiles
        total = len(self.named) or None
        with new_folder.written(target) as folder, printing.progress(total) as bars:
            task = bars.add_task("exporting", total=total)
            with day_files(folder) as files:
                for session_id, transcript in self._transcripts():
                    files.add(session_id, transcript)
                    bars.advance(task)
        said = f"exported: {self.count.sessions:,} sessions, {files.rows:,} rows, to {printing.one_line(target)}"
        self._tell(target, said, rows=files.rows)
        self._check(f"; the others are in {target}")

    def to_library(self, library: str, place: Layout, ttl: timedelta | None) -> None:
        """Copy the sessions to keys that another library reads."""
        check_keys(self.services, self.named, place)
        adopt.finish(self.services)
        if self.named:
            messages = sum(self._give_back(each, place, ttl) for each in self.named)
            self._tell(library, messages=messages, there=0)
        else:
            self._give_all_back(library, place, ttl)
            self._check()

    def _give_back(self, session_id: str, place: Layout, ttl: timedelta | None) -> int:
        messages = give_back(self.services, session_id, place, ttl, printing.warn)
        self.count.sessions += 1
        if not self.as_json:
            printing.say(f"given back: {printing.one_line(place.key(session_id).decode())}, {messages:,} messages")
        return messages

    def _give_all_back(self, library: str, place: Layout, ttl: timedelta | None) -> None:
        """A session whose key exists is counted as given back by an earlier run."""
        messages = there = 0
        with printing.progress(None) as bars:
            task = bars.add_task("giving back", total=None)
            for session_id in catalog.everything(self.services, self._note):
                try:
                    messages += give_back(self.services, session_id, place, ttl, printing.warn)
                    self.count.sessions += 1
                except SessionExists:
                    there += 1
                except SessionNotFound:
                    pass  # purged
                except (PermanentError, TranscriptChanged) as error:
                    self._note(session_id, error)
                bars.advance(task)
        said = f"given back: {self.count.sessions:,} sessions; {there:,} have their key already"
        self._tell(library, said, messages=messages, there=there)

    def _lines(self, session_ids: Iterable[str]) -> Iterator[bytes]:
        for session_id in session_ids:
            with open_transcript(self.services, session_id) as transcript:
                yield from json_lines.export_line(session_id, transcript.elements, transcript.owner)
            self.count.sessions += 1

    def _all_lines(self) -> Iterator[bytes]:
        for session_id in catalog.everything(self.services, self._note):
            try:
                yield from self._lines([session_id])
            except SessionNotFound:
                pass  # purged
            except (PermanentError, TranscriptChanged) as error:
                self._note(session_id, error)

    def _transcripts(self) -> Iterator[tuple[str, Transcript]]:
        """The named sessions, or all that can be read."""
        for session_id in self.named or catalog.everything(self.services, self._note):
            try:
                with open_transcript(self.services, session_id) as transcript:
                    yield session_id, transcript
                self.count.sessions += 1
            except (SessionNotFound, PermanentError, TranscriptChanged) as error:
                if self.named:
                    raise
                if not isinstance(error, SessionNotFound):  # which is one that was purged
                    self._note(session_id, error)

    def _note(self, what: str, error: TorporError) -> None:
        self.failed += 1
        printing.warn(f"not exported: {printing.one_line(what)}: {error}")

    def _tell(self, to: str, said: str = "", **more: int) -> None:
        if self.as_json:
            printing.print_json({"sessions": self.count.sessions, **more, "failed": self.failed, "to": to})
        elif said:
            printing.say(said)

    def _check(self, where: str = "") -> None:
        if self.failed:
            raise TorporError(f"{self.failed:,} sessions or shards could not be exported{where}")


def _print_lines(lines: Iterator[bytes]) -> None:
    if sys.stdout.isatty():
        printing.print_json_parts(lines)
    else:
        sys.stdout.buffer.writelines(lines)
