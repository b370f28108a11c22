"""Gzipped lines from the archive, read with a bound on each: no object can make a reader hold more.

The bound comes before the memory: a line that is not complete after half a MiB is measured to its end first.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import IO

from isal.igzip import IGzipFile
from isal.isal_zlib import IsalError

_READ_BYTES = 512 * 1024
# What a file of gzip that is cut off, damaged, or none at all raises.
NOT_GZIP = (EOFError, IsalError, gzip.BadGzipFile)


class LineTooLong(ValueError):
    """A line has more bytes than the caller takes."""


def pieces(body: IO[bytes], longest: int) -> Iterator[bytes]:
    """Yield the unpacked text in pieces of whole lines, each piece of half a MiB and the rest of its last line.

    The last piece lacks its line feed if the text does. Raises LineTooLong for a line of more than `longest` bytes, and
    the errors of NOT_GZIP.
    """
    with IGzipFile(fileobj=body, mode="rb") as unpacked:
        measured = False
        while text := unpacked.read(_READ_BYTES):
            if not text.endswith(b"\n"):
                at = unpacked.tell()
                rest = unpacked.readline(_READ_BYTES)
                if len(rest) == _READ_BYTES and not rest.endswith(b"\n"):
                    if not measured:
                        _measure(unpacked, len(text) - text.rfind(b"\n") - 1 + len(rest), longest)
                        measured = True
                        unpacked.seek(at)
                        rest = b""
                    rest += unpacked.readline()
                text += rest
            yield text


def _measure(unpacked: IGzipFile, begun: int, longest: int) -> None:
    """Raise LineTooLong if this line, of which `begun` bytes are read, or one that follows it is too long."""
    length = begun
    while True:
        if length > longest:
            raise LineTooLong(f"a line has more than {longest:,} bytes")
        text = unpacked.read(_READ_BYTES)
        if not text:
            return
        first = text.find(b"\n")
        if first < 0:
            length += len(text)
            continue
        if length + first > longest:
            raise LineTooLong(f"a line has more than {longest:,} bytes")
        length = len(text) - text.rfind(b"\n") - 1
