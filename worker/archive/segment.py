"""Segments: messages as the bytes of an object, and back.

A segment is gzip (mtime 0) of one JSON object a line:
{"session_id", "epoch", "seq", "at", "message": <the stored bytes, untouched>}
`seq` counts from the first message of the epoch. `at` is when the session was last written (ms since 1970).
A message that is not strict JSON, has a line break, or has far more values than text is kept as "raw" in base64. So is
a record of a LangGraph thread; before it stands "record", what people and query engines can read of it, unless it is
large. A restore reads "raw" alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

import orjson
from isal import isal_zlib

from torpor.history.protocol import MAX_MESSAGE_BYTES, MessageCorrupt, has_too_many_values, is_record, to_json_line
from torpor.history.records.readable import readable
from torpor.history.records.record import from_element
from torpor.worker.archive.lines import NOT_GZIP, LineTooLong, pieces
from torpor.worker.archive.names import SegmentName
from torpor.worker.errors import SegmentDamaged

FORMAT = "torpor-transcript/1"
_SPOOL_BYTES = 4 * 1024 * 1024
# zlib's number for gzip with the largest window; the header has no time.
_GZIP = 31
# A larger message is not copied into its line, and is compressed in pieces of this size.
_PIECE_BYTES = 1024 * 1024
# A longer line is not compressed, so that no reader need trust a small object that unpacks to a large message.
_LARGE = MAX_MESSAGE_BYTES
# The most bytes of a line beside its session, its epoch and its message.
_NUMBERS_BYTES = 100
# What is readable of a record is left out if it has so many bytes more than the record, or if the record is larger than
# this: each byte of MessagePack may be a list, which takes 64 bytes to read.
_READABLE_BYTES = 4_096
_READABLE_RECORD_BYTES = 256 * 1024
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


def pack(session_id: str, epoch: int, start: int, at_ms: int, pages: Iterable[Sequence[bytes]]) -> Packed:
    """Write pages of messages to a segment. The first message is number `start` of the epoch.

    A segment of up to 4 MiB is in memory, a larger one in a temporary file. The same messages give the same bytes.
    """
    spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115 - outlives this
    sha256 = hashlib.sha256()
    stop = start
    head = b'{"session_id":%b,"epoch":%d,"seq":' % (_json_text(session_id), epoch)
    try:
        zipped = _Zipped(spool, sha256.update)
        for page in pages:
            zipped.write_all(_texts(head, at_ms, stop, page))
            stop += len(page)
            del page  # its messages may be large, and the next page comes beside what is kept
        zipped.end()
    except BaseException:
        spool.close()
        raise
    size = spool.tell()
    spool.seek(0)
    digest = sha256.hexdigest()
    return Packed(SegmentName(epoch, start, stop, digest[:8]), spool, size, digest)


def _texts(head: bytes, at_ms: int, first: int, page: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The lines of a page: small ones joined to one part, a large one in parts, without a copy of its message."""
    small: list[bytes] = []
    for seq, message in enumerate(page, first):
        is_small = len(message) <= _PIECE_BYTES
        if is_small and is_plain(message):  # nearly every message
            small.append(b'%b%d,"at":%d,"message":%b}\n' % (head, seq, at_ms, message))
            continue
        line = b'%b%d,"at":%d,' % (head, seq, at_ms), *_member(message), b"}\n"
        if is_small:
            small.append(b"".join(line))
            continue
        yield [b"".join(small)]
        small.clear()
        yield line
    # One part for a page: each call of zlib lets another thread run, which costs more than to pack a line.
    yield [b"".join(small)]


class _Zipped:
    """Writes gzip. A large line becomes a member of its own, stored as it is (RFC 1952, 2.2: members are joined).

    `digest` is called with what is written, before it is compressed.
    """

    def __init__(self, file: BinaryIO, digest: Callable[[bytes], None]) -> None:
        self._file = file
        self._digest = digest
        self._member = _packing()

    def write_all(self, texts: Iterable[Sequence[bytes]]) -> None:
        """Add texts, each in parts; the parts of a large line must come alone."""
        for parts in texts:
            self._write(parts)
            for part in parts:
                self._digest(part)

    def _write(self, parts: Sequence[bytes]) -> None:
        if len(parts) > 1 and sum(map(len, parts)) > _LARGE:
            self.end()
            self._member = zlib.compressobj(0, wbits=_GZIP)
            self._add(parts)
            self.end()
            self._member = _packing()
        else:
            self._add(parts)

    def end(self) -> None:
        """Complete the file."""
        self._file.write(self._member.flush())

    def _add(self, parts: Sequence[bytes]) -> None:
        """Compress parts, a MiB at a time: what comes of one call is in memory as a whole."""
        for part in parts:
            view = memoryview(part)
            for at in range(0, len(view), _PIECE_BYTES):
                self._file.write(self._member.compress(view[at : at + _PIECE_BYTES]))


def _packing() -> Any:
    # Nearly as small as zlib's level 6, in a fraction of its time. An IGzipFile would take six times as long.
    return isal_zlib.compressobj(1, wbits=_GZIP)


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
            elements = lines.elements(text)
            del text  # both may be large, and the caller is in work until it asks for more
            yield elements
            del elements
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
        elements = []
        at = 0
        while (end := text.find(b"\n", at)) >= 0:
            begins = b"%b%d%b" % (self._head, self.seq, self._tail)
            # Nearly every line has the head and tail of the line before. Then there is no need to parse it.
            known = text.startswith(begins, at) and text.endswith(b"}", at + len(begins), end)
            elements.append(text[at + len(begins) : end - 1] if known else self._element(text, at, end))
            self.seq += 1
            at = end + 1
        if at < len(text):
            raise self._unlike()
        return elements

    def _element(self, text: bytes, at: int, end: int) -> bytes:
        """The stored bytes of the message in the line `text[at:end]`, of which no copy is made."""
        match = _LINE.fullmatch(text, at, end)
        if not match or int(match["seq"]) != self.seq:
            raise self._unlike()
        if (match["session"], match["epoch"]) != self._expected:
            raise SegmentDamaged("it belongs to another session or epoch")
        if match["kind"] == b"raw":
            body = memoryview(text)[match.start("body") + 1 : match.end("body") - 1]
            return binascii.a2b_base64(body, strict_mode=True)
        self._tail = text[match.end("seq") : match.start("body")]
        return match["body"]

    def _unlike(self) -> SegmentDamaged:
        return SegmentDamaged(f"line {self.seq - self._start + 1} is not message {self.seq} of a transcript")


def is_plain(element: bytes) -> bool:
    """True if an element can stand in a line as it is: strict JSON without a line break and too many values."""
    if has_too_many_values(element):
        return False
    try:
        orjson.loads(element)
    except orjson.JSONDecodeError:
        return False
    return b"\n" not in element and b"\r" not in element


def _member(element: bytes) -> tuple[bytes, ...]:
    """The parts of an element's member of its line."""
    if is_plain(element):
        return b'"message":', element
    readable_first = (b'"record":', _readable(element), b",") if is_record(element) else ()
    return *readable_first, b'"raw":"', base64.b64encode(element), b'"'


def _readable(element: bytes) -> bytes:
    """What can be read of a record as JSON: always the same for the same bytes."""
    if len(element) > _READABLE_RECORD_BYTES:
        return b"{}"
    try:
        line = to_json_line(readable(from_element(element)))
    except (MessageCorrupt, ValueError, TypeError, RecursionError):
        return b"{}"
    return line if len(line) <= len(element) + _READABLE_BYTES and is_plain(line) else b"{}"


def _json_text(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()
