"""JSON in the archive that is not a transcript: purge orders, inventories and receipts."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.errors import DocumentDamaged, ObjectNotFound, PurgeNotFound


def put(archive: ArchiveStore, name: str, document: Mapping[str, Any]) -> StoredObject:
    """Write an object of one JSON document, once; raises ArchiveConflict where it is there and says something else."""
    body = json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"
    return archive.put(name, io.BytesIO(body), len(body), metadata={})


def read(archive: ArchiveStore, name: str) -> dict[str, Any]:
    """The JSON document of an object; raises PurgeNotFound where there is none, and DocumentDamaged."""
    try:
        stored = next((each for each in archive.list(name) if each.name == name), None)
        if stored is None:
            raise PurgeNotFound(f"{archive.url}/{name} does not exist")
        with archive.open(stored) as body:
            document = json.loads(body.read())
    except ObjectNotFound as exc:
        raise PurgeNotFound(str(exc)) from exc
    except ValueError as exc:
        raise DocumentDamaged(f"{archive.url}/{name} is not JSON") from exc
    if not isinstance(document, dict):
        raise DocumentDamaged(f"{archive.url}/{name} is not a JSON object")
    return document


def put_lines(
    archive: ArchiveStore, name: str, lines: Sequence[Mapping[str, Any]], described: Mapping[str, str]
) -> StoredObject:
    """Write an object of one JSON document a line, gzipped, once, with its SHA-256 in the metadata."""
    text = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    body = gzip.compress(text, compresslevel=6, mtime=0)
    metadata = {**described, "sha256": sha256(text).hexdigest()}
    return archive.put(name, io.BytesIO(body), len(body), metadata=metadata)


def read_lines(archive: ArchiveStore, stored: StoredObject) -> Iterator[dict[str, Any]]:
    """The documents of such an object, as a stream; raises DocumentDamaged."""
    try:
        with archive.open(stored) as body, gzip.GzipFile(fileobj=body) as lines:
            for line in lines:
                yield json.loads(line)
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise DocumentDamaged(f"{archive.url}/{stored.name} is damaged: {exc}") from exc
