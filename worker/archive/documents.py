"""JSON documents in the archive: pydantic models, written as indented JSON or as gzipped lines."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import IO, Annotated, Any, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer, ValidationError, WithJsonSchema
from pydantic_core import from_json

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive.lines import NOT_GZIP, LineTooLong, pieces
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.errors import ArchiveCorrupt, DocumentDamaged, ObjectNotFound

# No document is longer, and no line of one: an inventory has a line for each session, with all its objects.
_MOST_BYTES = 16 * 1024 * 1024
_NAMED_FAULTS = 1_000


def text_of(moment: datetime) -> str:
    """A moment as documents have it: ISO 8601, to the millisecond."""
    return moment.isoformat(timespec="milliseconds")


Moment = Annotated[AwareDatetime, PlainSerializer(text_of), WithJsonSchema({"type": "string", "format": "date-time"})]


class Document(BaseModel):
    """The base of what is written to the archive as JSON."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    def fields(self) -> dict[str, Any]:
        """The document as JSON has it."""
        return self.model_dump(mode="json", by_alias=True)


D = TypeVar("D", bound=Document)


def put(
    archive: ArchiveStore,
    name: str,
    document: Document,
    *,
    most: int = _MOST_BYTES,
    metadata: Mapping[str, str] = MappingProxyType({}),
    custom_time: datetime | None = None,
) -> StoredObject:
    """Write an object of one document, once; raises ArchiveConflict if the object exists with other content.

    The object expires at `custom_time`, unless that is None.

    Raises InvalidArgument if the document has more than `most` bytes, or a text that has no UTF-8 form.
    """
    try:
        body = json.dumps(document.fields(), ensure_ascii=False, indent=1).encode() + b"\n"
    except UnicodeEncodeError as exc:
        raise InvalidArgument("the text has a lone surrogate, which has no UTF-8 form") from exc
    if len(body) > most:
        raise InvalidArgument(f"{name} would have {len(body):,} bytes, which is more than {most:,}")
    return archive.put(name, io.BytesIO(body), len(body), metadata=metadata, custom_time=custom_time)


def read(archive: ArchiveStore, name: str, model: type[D], *, most: int = _MOST_BYTES) -> D:
    """The document of an object; raises ObjectNotFound if there is no such object, and DocumentDamaged.

    An object of more than `most` bytes is not read.
    """
    stored = next((each for each in archive.list(name) if each.name == name), None)
    if stored is None:
        raise ObjectNotFound(f"{archive.url}/{name} does not exist")
    return read_stored(archive, stored, model, most=most)


def read_stored(archive: ArchiveStore, stored: StoredObject, model: type[D], *, most: int = _MOST_BYTES) -> D:
    """As `read`, of an object that was listed."""
    return _parse(archive, stored.name, content(archive, stored, most=most), model)


def content(archive: ArchiveStore, stored: StoredObject, *, most: int = _MOST_BYTES) -> bytes:
    """The bytes of an object of one document; errors as `read`."""
    if stored.damage is not None:
        raise DocumentDamaged(stored.damage)
    if stored.size > most:
        raise DocumentDamaged(f"{archive.url}/{stored.name} is damaged: it has more than {most:,} bytes")
    with archive.open(stored) as body:
        return body.read(stored.size)


def put_lines(
    archive: ArchiveStore, name: str, lines: Sequence[Document], described: Mapping[str, str]
) -> StoredObject:
    """Write an object of one document a line, gzipped, once; `described` and the SHA-256 are its metadata."""
    text = b"".join(json.dumps(line.fields(), ensure_ascii=False).encode() + b"\n" for line in lines)
    body = gzip.compress(text, compresslevel=6, mtime=0)
    metadata = {**described, "sha256": sha256(text).hexdigest()}
    return archive.put(name, io.BytesIO(body), len(body), metadata=metadata)


def read_lines(archive: ArchiveStore, stored: StoredObject, model: type[D]) -> Iterator[D]:
    """The documents of an object of lines, as a stream; raises DocumentDamaged."""
    for text in unpacked_lines(archive, stored):
        for line in text.splitlines():
            yield _parse(archive, stored.name, line, model)


def unpacked_lines(archive: ArchiveStore, stored: StoredObject) -> Generator[bytes]:
    """The text of an object of lines, in pieces of whole lines; raises DocumentDamaged."""
    try:
        with archive.open(stored) as body:
            yield from _pieces(archive, stored.name, body)
    except ArchiveCorrupt as exc:  # a link or a pipe in its place
        raise DocumentDamaged(str(exc)) from exc


def _pieces(archive: ArchiveStore, name: str, body: IO[bytes]) -> Iterator[bytes]:
    try:  # inside, because a store takes BadGzipFile, an OSError, for one of its own
        yield from pieces(body, _MOST_BYTES)
    except (*NOT_GZIP, LineTooLong) as exc:  # type: ignore[misc] # isal declares its error as an instance
        raise DocumentDamaged(f"{archive.url}/{name} is damaged: {exc}") from exc


def _parse(archive: ArchiveStore, name: str, text: bytes, model: type[D]) -> D:
    try:
        # In two steps: model_validate_json copies all of a wrong document into each of its errors.
        return model.model_validate(from_json(text))
    except ValidationError as exc:
        if exc.error_count() > _NAMED_FAULTS:  # pydantic would make a dict of each
            raise DocumentDamaged(f"{archive.url}/{name} is damaged: it has {exc.error_count():,} faults") from None
        first = exc.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise DocumentDamaged(f"{archive.url}/{name} is damaged: {field or 'the document'}: {first['msg']}") from exc
    except ValueError as exc:
        raise DocumentDamaged(f"{archive.url}/{name} is damaged: it is no JSON: {exc}") from exc
