"""Gzipped lines from the archive, read with a bound on each: no object can make a reader hold more.

The bound comes before the memory: a line that is not complete after a quarter MiB is measured to its end first.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from typing import IO

from isal.igzip import IGzipFile
from isal.isal_zlib import IsalError

# With twice as much, a restore of 1,000 messages gets 350 new pages of memory from the system instead of 10.
_READ_BYTES = 256 * 1024
# What a file of gzip that is cut off, damaged, or none at all raises.
NOT_GZIP = (EOFError, IsalError, gzip.BadGzipFile)


class LineTooLong(ValueError):
    """A line has more bytes than the caller takes."""


def pieces(body: IO[bytes], longest: int) -> Iterator[bytes]:
    """Yield the unpacked text in pieces of whole lines, each piece of a quarter MiB and the rest of its last line.

    The last piece lacks its line feed if the text does. Holds no piece that it has given. Raises LineTooLong for a line
    of more than `longest` bytes, and the errors of NOT_GZIP.
    """
    with IGzipFile(fileobj=body, mode="rb") as unpacked:
        # Each piece is the result of a function, because a generator would hold it until it is asked for the next one.
        yield from iter(_Reader(unpacked, longest).piece, b"")


class _Reader:
    """Reads pieces of unpacked text."""

    def __init__(self, unpacked: IGzipFile, longest: int) -> None:
        self._unpacked = unpacked
        self._longest = longest
        self._measured = False

    def piece(self) -> bytes:
        """The next piece; empty at the end of the text."""
        text: bytes = self._unpacked.read(_READ_BYTES)
        if not text or text.endswith(b"\n"):
            return text
        at = self._unpacked.tell()
        rest: bytes = self._unpacked.readline(_READ_BYTES)
        if len(rest) < _READ_BYTES or rest.endswith(b"\n"):
            return text + rest
        if not self._measured:
            self._measure(len(text) - text.rfind(b"\n") - 1 + len(rest))
            self._unpacked.seek(at)
            rest = self._unpacked.readline(_READ_BYTES)
        return self._with_long_line(text, rest)

    def _with_long_line(self, *begun: bytes) -> bytes:
        """What has begun, and the rest of its last line; held once, as `readline` and a sum would not."""
        # Closed, because a store's library may leave exceptions in cycles, which hold all callers' variables for long.
        with io.BytesIO() as whole:
            whole.writelines(begun)
            while rest := self._unpacked.readline(_READ_BYTES):
                whole.write(rest)
                if rest.endswith(b"\n"):
                    break
            return whole.getvalue()

    def _measure(self, begun: int) -> None:
        """Raise LineTooLong if this line, of which `begun` bytes are read, or one that follows it is too long."""
        self._measured = True
        length = begun
        while True:
            if length > self._longest:
                raise LineTooLong(f"a line has more than {self._longest:,} bytes")
            text = self._unpacked.read(_READ_BYTES)
            if not text:
                return
            first = text.find(b"\n")
            if first < 0:
                length += len(text)
                continue
            if length + first > self._longest:
                raise LineTooLong(f"a line has more than {self._longest:,} bytes")
            length = len(text) - text.rfind(b"\n") - 1
