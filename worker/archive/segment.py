"""Segments: messages as the bytes of an object, and back.

A segment is gzip (mtime 0) of one JSON object a line:
{"session_id", "epoch", "seq", "at", "message": <the stored bytes, untouched>}
`seq` counts from the first message of the epoch. `at` is when the session was last written (ms since 1970).
A message that is not strict JSON, or that has a line break, is kept as "raw" in base64. So is a record of a LangGraph
thread; before it stands "record", what people and query engines can read of it. A restore reads "raw" alone.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import IO, BinaryIO, Self, cast

import orjson
from isal.igzip import IGzipFile

from torpor.history.protocol import MAX_MESSAGE_BYTES, MessageCorrupt, is_record, to_json_line
from torpor.history.records.readable import readable
from torpor.history.records.record import from_element
from torpor.worker.archive.lines import NOT_GZIP, LineTooLong, pieces
from torpor.worker.archive.names import SegmentName
from torpor.worker.errors import SegmentDamaged

FORMAT = "torpor-transcript/1"
_SPOOL_BYTES = 4 * 1024 * 1024
# A longer line is not compressed, so that no reader need trust a small object that unpacks to a large message.
_LARGE = MAX_MESSAGE_BYTES
# The most bytes of a line beside its session, its epoch and its message.
_NUMBERS_BYTES = 100
# What is readable of a record is left out if it has so many bytes more than the record.
_READABLE_BYTES = 4_096
_LINE = re.compile(
    rb'\{"session_id":(?P<session>"(?:[^"\\]|\\.)*"),"epoch":(?P<epoch>\d{1,20}),"seq":(?P<seq>\d{1,20}),"at":\d+,'
    rb'(?:"record":\{.*\},)?"(?P<kind>message|raw)":(?P<body>.*)\}',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A segment that is ready to be sent. `body` stands at its start; `sha256` is of the uncompressed bytes."""

    name: SegmentName
    body: BinaryIO
    size: int
    sha256: str

    @property
    def count(self) -> int:
        """How many messages it has."""
        return self.name.stop - self.name.start


def pack(session_id: str, epoch: int, start: int, at_ms: int, pages: Iterable[Iterable[bytes]]) -> Packed:
    """Write pages of messages to a segment. The first message is number `start` of the epoch.

    A segment of up to 4 MiB is in memory, a larger one in a temporary file. The same messages give the same bytes.
    """
    spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115 - outlives this
    sha256 = hashlib.sha256()
    stop = start
    head = b'{"session_id":%b,"epoch":%d,"seq":' % (_json_text(session_id), epoch)
    try:
        with _Zipped(spool) as zipped:
            # One call for a page: each call of zlib lets another thread run, which costs more than to pack a line.
            for page in pages:
                lines = [
                    b'%b%d,"at":%d,%b}\n' % (head, seq, at_ms, _member(message))
                    for seq, message in enumerate(page, stop)
                ]
                for text in _joined(lines):
                    sha256.update(text)
                    zipped.write(text)
                stop += len(lines)
    except BaseException:
        spool.close()
        raise
    size = spool.tell()
    spool.seek(0)
    digest = sha256.hexdigest()
    return Packed(SegmentName(epoch, start, stop, digest[:8]), spool, size, digest)


def _joined(lines: list[bytes]) -> list[bytes]:
    """The lines in one piece; but each large one is a piece of its own."""
    if max(map(len, lines), default=0) <= _LARGE:
        return [b"".join(lines)]
    return [b"".join(group) for _, group in groupby(lines, key=lambda line: len(line) > _LARGE and line)]


class _Zipped:
    """Writes gzip. A large line becomes a member of its own, stored as it is (RFC 1952, 2.2: members are joined)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        self._member.close()

    def write(self, text: bytes) -> None:
        """Add text; a line of more than _LARGE bytes must come alone."""
        if len(text) > _LARGE and text.find(b"\n") == len(text) - 1:
            self._member.close()
            self._file.write(gzip.compress(text, compresslevel=0, mtime=0))
            self._begin()
        else:
            self._member.write(text)

    def _begin(self) -> None:
        # Nearly as small as zlib's level 6, in a fraction of its time.
        self._member = IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=self._file, mtime=0)


def unpack(
    session_id: str, name: SegmentName, sha256: str | None, body: IO[bytes], most_bytes: int
) -> Iterator[list[bytes]]:
    """Yield the stored bytes of a segment's messages, in order, some at a time; none has more than `most_bytes`.

    Raises SegmentDamaged, perhaps only at the end: use no message before the last one has come.
    """
    lines = _Lines(session_id, name)
    digest = hashlib.sha256()
    try:
        for text in pieces(body, lines.longest(most_bytes)):
            digest.update(text)
            yield lines.elements(text)
            if lines.seq > name.stop:
                break
    except LineTooLong as exc:
        raise SegmentDamaged(
            f"it unpacks to a message of more than {most_bytes:,} bytes; if that is wanted, raise "
            "TORPOR_MAX_MESSAGE_BYTES, or max_message_bytes of the SessionArchive"
        ) from exc
    except (*NOT_GZIP, binascii.Error) as exc:  # type: ignore[misc] # isal declares its error as an instance
        raise SegmentDamaged(f"it is not a complete gzip file: {exc}") from exc
    if lines.seq != name.stop:
        raise SegmentDamaged(f"it ends after message {lines.seq - 1}, not {name.stop - 1}")
    if not digest.hexdigest().startswith(name.digest) or (sha256 and digest.hexdigest() != sha256):
        raise SegmentDamaged("its content has another SHA-256 than was recorded")


class _Lines:
    """Reads the lines of a segment and checks each. `seq` is the number of the next message."""

    def __init__(self, session_id: str, name: SegmentName) -> None:
        self.seq = name.start
        self._start = name.start
        self._expected = (_json_text(session_id), b"%d" % name.epoch)
        self._head = b'{"session_id":%b,"epoch":%b,"seq":' % self._expected
        self._tail = b"\n"  # the bytes between number and message in the line before; no line has these

    def longest(self, most_bytes: int) -> int:
        """The length of the longest line whose message may have so many bytes, if that is in base64."""
        return len(self._head) + _NUMBERS_BYTES + 4 * (most_bytes // 3 + 1) + most_bytes + _READABLE_BYTES

    def elements(self, text: bytes) -> list[bytes]:
        """The stored bytes of the messages in some lines."""
        *lines, unended = text.split(b"\n")
        elements = []
        for line in lines:
            begins = b"%b%d%b" % (self._head, self.seq, self._tail)
            # Nearly every line has the head and tail of the line before. Then there is no need to parse it.
            known = line.startswith(begins) and line.endswith(b"}")
            elements.append(line[len(begins) : -1] if known else self._element(line))
            self.seq += 1
        if unended:
            raise self._unlike()
        return elements

    def _element(self, line: bytes) -> bytes:
        match = _LINE.fullmatch(line)
        if not match or int(match["seq"]) != self.seq:
            raise self._unlike()
        if (match["session"], match["epoch"]) != self._expected:
            raise SegmentDamaged("it belongs to another session or epoch")
        if match["kind"] == b"raw":
            return base64.b64decode(match["body"][1:-1], validate=True)
        self._tail = line[match.end("seq") : match.start("body")]
        return match["body"]

    def _unlike(self) -> SegmentDamaged:
        return SegmentDamaged(f"line {self.seq - self._start + 1} is not message {self.seq} of a transcript")


def is_plain(element: bytes) -> bool:
    """True if an element can stand in a line as it is: it is strict JSON without a line break."""
    try:
        orjson.loads(element)
    except orjson.JSONDecodeError:
        return False
    return b"\n" not in element and b"\r" not in element


def _member(element: bytes) -> bytes:
    if is_plain(element):
        return b'"message":' + element
    raw = b'"raw":"%b"' % base64.b64encode(element)
    return b'"record":%b,%b' % (_readable(element), raw) if is_record(element) else raw


def _readable(element: bytes) -> bytes:
    """What can be read of a record as JSON: always the same for the same bytes."""
    try:
        line = to_json_line(readable(from_element(element)))
    except (MessageCorrupt, ValueError, TypeError, RecursionError):
        return b"{}"
    return line if len(line) <= len(element) + _READABLE_BYTES and is_plain(line) else b"{}"


def _json_text(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()
