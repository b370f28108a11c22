"""Inventories: what a purge has found, written to the archive before anything of it is removed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    FailFast,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_serializer,
)

from torpor.history.protocol import check_owner, check_session_id
from torpor.worker.archive import documents, names
from torpor.worker.archive.documents import Document
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DocumentDamaged
from torpor.worker.jobs.batches import Batches

# No count of anything is larger; one that is can't be shown as a size.
_Count = Annotated[int, Field(ge=-(2**63), lt=2**63), WithJsonSchema({"type": "integer"})]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of what was found or removed. `messages` are those of complete transcripts, `bytes` those of objects."""

    __pydantic_config__ = ConfigDict(json_schema_serialization_defaults_required=True)

    sessions: _Count = 0
    messages: _Count = 0
    objects: _Count = 0
    bytes: _Count = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.sessions + other.sessions,
            self.messages + other.messages,
            self.objects + other.objects,
            self.bytes + other.bytes,
        )

    def __sub__(self, other: Tally) -> Tally:
        return Tally(
            self.sessions - other.sessions,
            self.messages - other.messages,
            self.objects - other.objects,
            self.bytes - other.bytes,
        )


_Owner = Annotated[str, AfterValidator(check_owner)]
# A purge writes an inventory for each 100 sessions.
_MOST_SESSIONS = 1_000
_TALLY = TypeAdapter(Tally)


class FoundObject(Document):
    """An object in the archive. `sha256` is that of the uncompressed transcript; None for a marker."""

    model_config = ConfigDict(extra="forbid")

    name: str
    generation: int
    size: int
    sha256: str | None


class Found(Document):
    """One line of an inventory: what a purge finds of a session in Redis, in the archive, or in both.

    `owner` is the one in Redis; `owners` has those in the archive too. `epoch` is the newest one, 0 if there is none.
    If Redis has the session and it is `unreadable` there, its owner, its messages and its epoch in Redis are unknown.
    """

    model_config = ConfigDict(extra="forbid")

    session: Annotated[str, AfterValidator(check_session_id)]
    owner: _Owner | None
    owners: Annotated[list[_Owner], FailFast()]
    epoch: int
    in_redis: bool
    live_messages: int
    messages: int
    objects: Annotated[list[FoundObject], FailFast()]  # else each wrong one costs a KiB for its errors
    unreadable: bool = False

    @model_serializer(mode="wrap")
    def _unreadable_if_so(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `unreadable` out unless it is true: older workers refuse a field that they don't know."""
        fields: dict[str, Any] = serialize(self)
        return fields if self.unreadable else {name: each for name, each in fields.items() if name != "unreadable"}

    def __bool__(self) -> bool:
        return self.in_redis or bool(self.objects)

    @property
    def tally(self) -> Tally:
        """The counts of this session, which is none if nothing of it was found."""
        return Tally(int(bool(self)), self.messages, len(self.objects), sum(each.size for each in self.objects))


def write(services: Services, purge: str, number: int, founds: Sequence[Found]) -> None:
    """Write an inventory, its counts in its metadata; raises ArchiveConflict if another worker wrote another one."""
    tally = sum((found.tally for found in founds), Tally())
    described = {name: str(count) for name, count in asdict(tally).items()}
    _batches(services, purge).write(number, founds, described)


def written(services: Services, purge: str) -> Iterator[StoredObject]:
    """A purge's inventories, in order."""
    return _batches(services, purge).written()


def read(services: Services, stored: StoredObject) -> Iterator[Found]:
    """The sessions of an inventory, as a stream; raises DocumentDamaged."""
    seen: set[str] = set()
    for found in documents.read_lines(services.archive, stored, Found):
        if found.session in seen or len(seen) == _MOST_SESSIONS:
            raise DocumentDamaged(
                f"{stored.name} is damaged: it has a session twice, or over {_MOST_SESSIONS:,} sessions"
            )
        seen.add(found.session)
        yield found


def text(services: Services, stored: StoredObject) -> Generator[bytes]:
    """The text of an inventory, whose SHA-256 the receipt has, in pieces; raises DocumentDamaged."""
    return documents.unpacked_lines(services.archive, stored)


def tally_of(stored: StoredObject) -> Tally:
    """The counts of an inventory, from its metadata; raises DocumentDamaged."""
    try:
        return _TALLY.validate_python({name: stored.metadata[name] for name in asdict(Tally())})
    except ValidationError as exc:
        raise DocumentDamaged(f"the metadata of {stored.name} is damaged: {exc.errors()[0]['msg']}") from exc
    except KeyError as exc:
        raise DocumentDamaged(f"the metadata of {stored.name} is damaged: {exc} is missing") from exc


def note_removed(services: Services, purge: str, number: int) -> None:
    """Note that the sessions of an inventory were removed once. Repeatable."""
    _batches(services, purge).note_done(number)


def is_removed(services: Services, purge: str, number: int) -> bool:
    """True if the sessions of an inventory were removed once."""
    return _batches(services, purge).is_done(number)


def complete(services: Services, purge: str) -> None:
    """Note that a purge has listed all its sessions. Repeatable."""
    _batches(services, purge).complete()


def is_complete(services: Services, purge: str) -> bool:
    """True if a purge has listed all its sessions."""
    return _batches(services, purge).is_complete()


def _batches(services: Services, purge: str) -> Batches:
    return Batches(services.archive, names.PURGES, purge)
