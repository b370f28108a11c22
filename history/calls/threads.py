"""The operations of an application on LangGraph threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from torpor.history.calls import refusals
from torpor.history.calls.call import Call, Deployment, expiry_args, span_ms
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import SessionIncomplete
from torpor.history.expiry import Expiry
from torpor.history.limits import MAX_MESSAGE_BYTES, check_elements
from torpor.history.owners import Caller, named_owner
from torpor.history.scripts import script


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to be written: its checkpoint's namespace and id, and its bytes.

    `state` is the one in which its places were read, empty if it has none, and `length` the number of records at that
    time, which is also the position that stands in the bytes. Redis corrects a position that is not right any more.
    `interrupts`: a task waits for a person from now on (True), or does not any more (False).
    """

    ns: str
    id: str
    element: bytes = field(repr=False)
    state: str = ""
    length: int = 0
    interrupts: bool | None = None


@dataclass(frozen=True, slots=True)
class KnownPlaces:
    """The places of the values that a reader has, and the state and the number of records when they were read.

    A place is the position of a record, and the number of the value in it.
    """

    state: str = ""
    length: int = 0
    places: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class WrittenRecord:
    """A record's position in the list, and the state in which that position counts; None if it was written before."""

    state: str
    position: int | None


@dataclass(frozen=True, slots=True)
class CheckpointReply:
    """A checkpoint as one atomic read saw it. `complete`: no record of the thread is in the archive alone.

    `length` is the number of records. `element` and `position` are None if there is no such checkpoint. `parts` has,
    for each channel, what earlier records have of its value, newest part first; a number at the end stands for the
    reader's known value of that number, after which the value goes on. `writes` are records of writes, oldest first.
    """

    complete: bool
    state: str
    length: int
    position: int | None = None
    element: bytes | None = field(default=None, repr=False)
    parts: list[list[bytes | int]] = field(default_factory=list, repr=False)
    writes: list[bytes] = field(default_factory=list, repr=False)


def write_record(
    deployment: Deployment,
    session_id: str,
    record: NewRecord,
    *,
    expiry: Expiry = Expiry(),  # noqa: B008 - frozen
    owner: Caller = None,
    only_known: bool = False,
    allow_reuse: bool = False,
    interrupted_idle: timedelta | None = None,
    max_bytes: int = MAX_MESSAGE_BYTES,
    request: bytes | None = None,
) -> Call[WrittenRecord | None]:
    """Append a record to a thread; None if its places mean nothing any more, and nothing was written.

    `interrupted_idle` is the idle timeout until the next activity, if a task waits for a person at the checkpoint.
    `expiry`, `owner`, `only_known`, `allow_reuse` and `request` as in `append`. Raises KindMismatch, OwnerMismatch,
    SessionPurged, SessionNotFound with `only_known` if the thread may be asleep, and MessageTooLarge.
    """
    check_elements([record.element], max_bytes, max_depth=None)
    keys = session_keys(deployment.keyspace, session_id, named_owner(owner))
    given = deployment.resolve(session_id, owner, expiry)

    def decode(reply: Any) -> WrittenRecord | None:
        refusals.check(session_id, owner, reply)
        match reply:
            case [b"moved"]:
                return None
            case [b"ok", state, position]:
                return WrittenRecord(state.decode(), int(position))
        return WrittenRecord("", None)

    return Call(
        script("write_record"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.recent_requests,
            keys.record_index,
            *keys.owners,
        ],
        [
            keys.session,
            request or os.urandom(8),
            *deployment.defaults,
            *expiry_args(given),
            deployment.caller(owner),
            int(allow_reuse),
            int(only_known),
            span_ms(interrupted_idle),
            b"" if record.interrupts is None else int(record.interrupts),
            record.state.encode(),
            record.length,
            record.ns.encode(),
            record.id.encode(),
            record.element,
        ],
        decode,
    )


def read_checkpoint(
    deployment: Deployment,
    session_id: str,
    ns: str,
    checkpoint_id: str | None,
    *,
    touch: bool,
    owner: Caller = None,
    known: KnownPlaces = KnownPlaces(),
) -> Call[CheckpointReply]:
    """Read a checkpoint, or the latest one of its namespace; with `touch` it counts as activity.

    The reply has no bytes of the values at the `known` places, if the thread is still in their state.

    Raises KindMismatch and OwnerMismatch.
    """
    keys = session_keys(deployment.keyspace, session_id)

    def decode(reply: Any) -> CheckpointReply:
        refusals.check(session_id, owner, reply)
        complete, state, length, *found = reply
        if not found:
            return CheckpointReply(complete == b"1", state.decode(), int(length))
        position, element, parts, *writes = found
        return CheckpointReply(complete == b"1", state.decode(), int(length), int(position), element, parts, writes)

    return Call(
        script("read_checkpoint"),
        [keys.messages, keys.metadata, keys.due, keys.record_index],
        [
            keys.session,
            int(touch),
            *deployment.defaults,
            ns.encode(),
            (checkpoint_id or "").encode(),
            deployment.caller(owner),
            known.state.encode(),
            known.length,
            *((at << 16) + slot for at, slot in known.places),
        ],
        decode,
    )


def rewrite(
    deployment: Deployment,
    session_id: str,
    elements: Sequence[bytes],
    *,
    epoch: int,
    total: int,
    owner: Caller = None,
    request: bytes | None = None,
) -> Call[bool]:
    """Replace all records of a thread, in a new epoch; the worker erases older epochs in the archive.

    If it is not in `epoch` any more, with `total` records, nothing is done and the result is False. `request` as
    in `append`. Raises OwnerMismatch, SessionIncomplete, SessionHeld and SessionPurged.
    """
    keys = session_keys(deployment.keyspace, session_id)

    def decode(reply: Any) -> bool:
        refusals.check(session_id, owner, reply)
        if reply[0] == b"incomplete":
            raise SessionIncomplete(
                f"a part of thread {session_id!r} may be in the archive alone: with archive= it is woken first"
            )
        return bool(reply[0] == b"rewritten")

    return Call(
        script("rewrite"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.recent_requests,
            keys.holds,
            keys.record_index,
        ],
        [keys.session, request or os.urandom(8), epoch, total, deployment.caller(owner), *elements],
        decode,
    )
