"""The files of one batch of sessions: lines for programs, text for people, and the lines of the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import IO, Self

from torpor.worker import control_characters
from torpor.worker.access.manifest import Copied
from torpor.worker.transfer import json_lines
from torpor.worker.transfer.output_file import private
from torpor.worker.transfer.speech import Speech, speeches
from torpor.worker.wake.read import Transcript

# Large text is written in pieces of so many characters, because each step makes a copy.
_PIECE = 256 * 1024


class BatchFiles:
    """The three files of a batch. They get their names at the end; with that of the manifest, the batch is done.

    Only their owner may read them. Raises OSError.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.lines_name = f"sessions-{number:06d}.jsonl"
        self._names = (self.lines_name, f"sessions-{number:06d}.txt", f"manifest-{number:06d}.jsonl")
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._lines, self._text, self._manifest = map(self._open, self._names)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for file in (self._lines, self._text, self._manifest):
                file.flush()
                os.fsync(file.fileno())
        self._stack.close()
        for name in self._names:
            if kind is None:
                self._temporary(name).replace(self._folder / name)
            else:
                self._temporary(name).unlink(missing_ok=True)

    def add(self, session_id: str, transcript: Transcript) -> tuple[str, int]:
        """Write a session; returns the SHA-256 of its line, and how many messages its text can't show."""
        digest = sha256()
        for part in json_lines.export_line(session_id, transcript.elements, transcript.owner):
            digest.update(part)
            self._lines.write(part)
        return digest.hexdigest(), _write_text(self._text, session_id, speeches(transcript.elements, []))

    def note(self, copied: Copied) -> None:
        """Write a session's line of the manifest."""
        self._manifest.write(copied.model_dump_json(by_alias=True).encode() + b"\n")

    def _open(self, name: str) -> IO[bytes]:
        return self._stack.enter_context(open(self._temporary(name), "wb", opener=private))

    def _temporary(self, name: str) -> Path:
        return self._folder / f".{name}.tmp"


def manifests(folder: Path) -> list[Path]:
    """The manifests of the batches that are done, in order."""
    found: list[Path] = []
    while (path := folder / f"manifest-{len(found) + 1:06d}.jsonl").is_file():
        found.append(path)
    return found


def copied_of(manifest: Path) -> Iterator[Copied]:
    """The lines of a manifest; raises ValueError for one that was changed."""
    with manifest.open("rb") as lines:
        for line in lines:
            yield Copied.model_validate_json(line)


def _write_text(file: IO[bytes], session_id: str, said: Iterable[Speech]) -> int:
    """Write a session for people, without control characters; returns how many of its messages can't be read."""
    unreadable = 0
    file.write(f"session {control_characters.one_line(session_id)}\n\n".encode())
    for each in said:
        unreadable += each.role is None
        file.write(f"{control_characters.one_line(each.speaker)}\n".encode())
        for at in range(0, len(each.text), _PIECE):
            piece = control_characters.printable(each.text[at : at + _PIECE]).replace("\n", "\n  ")
            file.write(("  " * (at == 0) + piece).encode())
        file.write(b"\n" * bool(each.text))
        for kind in each.kinds:
            file.write(f"  [{control_characters.one_line(kind)}]\n".encode())
        for call in each.calls:
            file.write(f"  -> {control_characters.one_line(call)}\n".encode())
    file.write(b"\n")
    return unreadable
