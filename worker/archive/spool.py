"""A transcript that is read as a whole before any of it is used, and never held in memory as a whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

_IN_MEMORY = 2 * 1024 * 1024
_LENGTH_BYTES = 8


class Spool:
    """Elements, oldest first, in memory up to 2 MiB and in a temporary file above. Can be read any number of times."""

    def __init__(self) -> None:
        """Empty."""
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - see __exit__
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, elements: Iterable[bytes]) -> None:
        """Add elements at the end."""
        for element in elements:
            if len(element) > _IN_MEMORY:
                self._file.rollover()  # else it would be copied before it goes to the file
            self._file.write(len(element).to_bytes(_LENGTH_BYTES))
            self._file.write(element)
            self._count += 1

    def clear(self) -> None:
        """Remove all elements."""
        self._file.seek(0)
        self._file.truncate()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        for _ in range(self._count):
            yield self._file.read(int.from_bytes(self._file.read(_LENGTH_BYTES)))

    def part(self, start: int, stop: int) -> Iterator[bytes]:
        """The elements from position `start` to before `stop`. Those before are not read."""
        self._file.seek(0)
        for position in range(min(stop, self._count)):
            length = int.from_bytes(self._file.read(_LENGTH_BYTES))
            if position < start:
                self._file.seek(length, os.SEEK_CUR)
            else:
                yield self._file.read(length)
