"""Segments that mean harm to whoever reads them: harmless content, in amounts that no reader should hold."""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Iterable, Iterator

from support.huge_session import MIB
from torpor.worker.archive import names
from torpor.worker.archive.names import SegmentName
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services

EPOCH = 1_700_000_000_000_000


def put(services: Services, text: Iterable[bytes], count: int, *, session: str = "hostile") -> StoredObject:
    """Put a segment of any text into the archive: name, size, digests and metadata are right."""
    packed = io.BytesIO()
    digest = hashlib.sha256()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as zipped:
        for piece in text:
            digest.update(piece)
            zipped.write(piece)
    name = SegmentName(EPOCH, 0, count, digest.hexdigest()[:8])
    metadata = {"session": session, "base": "0", "sha256": digest.hexdigest()}
    return services.archive.put(
        names.segment_name(session, name), io.BytesIO(packed.getvalue()), packed.tell(), metadata=metadata
    )


def head(seq: int, kind: str = "message") -> bytes:
    return b'{"session_id":"hostile","epoch":%d,"seq":%d,"at":0,"%b":' % (EPOCH, seq, kind.encode())


def one_message(mib: int, kind: str = "message") -> Iterator[bytes]:
    """One message, well formed, of so many MiB."""
    yield head(0, kind) + (b'"' if kind == "raw" else b'{"type":"human","data":{"content":"')
    for _ in range(mib):
        yield b"x" * MIB
    yield b'"}\n' if kind == "raw" else b'"}}}\n'


def no_end(mib: int) -> Iterator[bytes]:
    """A line without an end."""
    for _ in range(mib):
        yield b"x" * MIB


def many_messages(count: int, content: bytes = b"") -> Iterator[bytes]:
    """Well-formed messages."""
    for first in range(0, count, 10_000):
        yield b"".join(
            head(seq) + b'{"type":"human","data":{"content":"%b"}}}\n' % content for seq in range(first, first + 10_000)
        )
