"""The operations of an application on its sessions."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from torpor.history.calls.call import PAGE_MESSAGES, Call, Deployment, Keep, span_ms, to_moment, to_span
from torpor.history.calls.session_info import to_hold, to_session_info
from torpor.history.errors import (
    InvalidArgument,
    OwnerMismatch,
    SessionExists,
    SessionHeld,
    SessionIncomplete,
    SessionNotFound,
    SessionPurged,
)
from torpor.history.expiry import DEFAULT_IDLE, Expiry
from torpor.history.keys import Keyspace, config_key, encode_owner, encode_session_id
from torpor.history.limits import MAX_DEPTH, MAX_MESSAGE_BYTES, check_elements
from torpor.history.policy import Policies
from torpor.history.scripts import script
from torpor.history.session import FenceToken, Page, SessionInfo

# One token of the fence as move_fence.lua writes it: since when (ms), and the token.
_FENCE_TOKEN = re.compile(rb"(\d{1,15}):([0-9a-f]+)")


def configure(
    namespace: str,
    shards: int,
    idle: timedelta | None,
    max_age: timedelta | Keep | None,
    *,
    retention: timedelta | Keep | None,
    policies: Policies | None,
    record: bool,
) -> Call[Deployment]:
    """Read the deployment's configuration; with `record`, first record the given values.

    A recorded shard count stays. None leaves `idle` and `policies` as they are, and KEEP leaves `max_age` and
    `retention`. For these two None records that there is none.
    """

    def decode(reply: Any) -> Deployment:
        recorded, idle_ms, max_age_ms, rules, retention_ms, identity, archive, fence, now_ms = reply
        return Deployment(
            Keyspace(namespace, int(recorded or shards)),
            to_span(idle_ms) or DEFAULT_IDLE,
            to_span(max_age_ms),
            to_span(retention_ms),
            Policies.parse(rules or b"[]"),
            recorded=recorded is not None,
            retention_known=retention_ms is not None,
            id=identity.decode() if identity else None,
            archive=archive.decode() if archive else None,
            fence=_to_fence(fence or b""),
            read_at=to_moment(now_ms),
        )

    return Call(
        script("configure"),
        [config_key(namespace)],
        [
            shards,
            int(record),
            span_ms(idle),
            _to_record(max_age),
            b"" if policies is None else bytes(policies),
            _to_record(retention),
        ],
        decode,
    )


def _to_fence(stored: bytes) -> tuple[FenceToken, ...]:
    return tuple(FenceToken(token.decode(), to_moment(since)) for since, token in _FENCE_TOKEN.findall(stored))


def append(
    deployment: Deployment,
    session_id: str,
    messages: Sequence[bytes],
    *,
    expiry: Expiry = Expiry(),  # noqa: B008 - frozen
    owner: str | None = None,
    only_new: bool = False,
    allow_reuse: bool = False,
    max_bytes: int = MAX_MESSAGE_BYTES,
    max_depth: int | None = MAX_DEPTH,
    request: bytes | None = None,
) -> Call[int]:
    """Append the JSON bytes of one turn, oldest first; the result is the length of the list in Redis.

    There is at least one, unless `only_new` makes an empty session.
    A retry by the client after a lost reply does not write the turn again, because it has the same `request` id (a
    random one, unless given). `expiry`, within the deployment's policies, and `owner` count only if the session has
    none yet. Raises OwnerMismatch, SessionPurged unless `allow_reuse`, SessionExists with `only_new`, MessageTooLarge
    for a message of more than `max_bytes`, and MessageNotSerializable for one that is nested deeper than `max_depth`.
    """
    if not messages and not only_new:
        raise InvalidArgument("a turn has at least one message")
    check_elements(messages, max_bytes, max_depth)
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    given = deployment.resolve(session_id, owner, expiry)
    encoded_owner = b"" if owner is None else encode_owner(owner)
    owner_keys = [keys.owner(encoded_owner)] if encoded_owner else []

    def decode(reply: Any) -> int:
        match reply[0]:
            case b"owner":
                raise OwnerMismatch(f"session {session_id!r} belongs to another owner than {owner!r}")
            case b"exists":
                raise SessionExists(f"session {session_id!r} is in Redis already")
            case b"purged":
                raise _purged(session_id)
        return int(reply[1])

    return Call(
        script("append"),
        [
            keys.messages(session),
            keys.metadata(session),
            keys.due,
            keys.tally,
            keys.recent_requests(session),
            *owner_keys,
        ],
        [
            session,
            request or os.urandom(8),
            *deployment.defaults,
            span_ms(given.idle),
            span_ms(given.max_age),
            span_ms(given.retention),
            encoded_owner,
            int(only_new),
            int(allow_reuse),
            *messages,
        ],
        decode,
    )


def read(
    deployment: Deployment, session_id: str, start: int, stop: int | None, page_bytes: int, *, touch: bool
) -> Call[Page | None]:
    """Read messages from `start` on until `stop` or until about `page_bytes` are read; None if it is not in Redis.

    A negative `start` counts from the end. With `touch` it counts as activity.
    """
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)

    def decode(reply: Any) -> Page | None:
        if not reply:
            return None
        epoch, restored_count, total, complete, first, *messages = reply
        return Page(int(epoch), int(restored_count), int(total), int(first), messages, complete=complete == b"1")

    return Call(
        script("read"),
        [keys.messages(session), keys.metadata(session), keys.due],
        [session, int(touch), *deployment.defaults, start, b"" if stop is None else stop, page_bytes, PAGE_MESSAGES],
        decode,
    )


def info(deployment: Deployment, session_id: str) -> Call[SessionInfo | None]:
    """Describe a session without counting as activity; None if it is not in Redis."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    return Call(
        script("info"),
        [keys.messages(session), keys.metadata(session), keys.due, keys.holds],
        [session],
        lambda reply: to_session_info(deployment, session_id, reply),
    )


def update(
    deployment: Deployment,
    session_id: str,
    owner: str | None,
    *,
    idle: timedelta | Keep | None,
    max_age: timedelta | Keep | None,
    retention: timedelta | Keep | None,
) -> Call[None]:
    """Change the expiry of a session in Redis, within the policies for it and its `owner`; None sets the default.

    Raises SessionNotFound.
    """
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    wanted = Expiry(*(None if isinstance(value, Keep) else value for value in (idle, max_age, retention)))
    given = deployment.resolve(session_id, owner, wanted)

    def decode(reply: Any) -> None:
        if not reply:
            raise SessionNotFound(f"session {session_id!r} is not in Redis; restore it first")

    return Call(
        script("update"),
        [keys.messages(session), keys.metadata(session), keys.due],
        [
            session,
            b"" if isinstance(idle, Keep) else _to_record(given.idle),
            b"" if isinstance(max_age, Keep) else _to_record(given.max_age),
            b"" if isinstance(retention, Keep) else _to_record(given.retention),
            *deployment.defaults,
        ],
        decode,
    )


def close(deployment: Deployment, session_id: str) -> Call[bool]:
    """Make a session due now; False if it is not in Redis, or in quarantine."""
    session = encode_session_id(session_id)
    return Call(script("close"), [deployment.keyspace.of(session).due], [session], bool)


def clear(
    deployment: Deployment, session_id: str, *, owner: str | None = None, request: bytes | None = None
) -> Call[int]:
    """Empty a session at once, in a new epoch, which is the result; the worker erases older epochs in the archive.

    If the session is not in Redis, a legal hold of `owner` protects it too. `request` as in `append`. Raises
    SessionHeld and SessionPurged.
    """
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)

    def decode(reply: Any) -> int:
        match reply[0]:
            case b"held":
                raise _held(session_id, reply[1])
            case b"purged":
                raise _purged(session_id)
        return int(reply[1])

    return Call(
        script("clear"),
        [
            keys.messages(session),
            keys.metadata(session),
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.recent_requests(session),
            keys.holds,
        ],
        [session, request or os.urandom(8), b"" if owner is None else encode_owner(owner)],
        decode,
    )


def pop(
    deployment: Deployment, session_id: str, last: Page, *, owner: str | None = None, request: bytes | None = None
) -> Call[bool]:
    """Take back the last message for good, in a new epoch; the worker erases older epochs in the archive.

    `last` is the page that was read with that message. If the session has changed since, nothing is done and the
    result is False. `owner` as in `clear`, `request` as in `append`. Raises SessionIncomplete, SessionHeld and
    SessionPurged.
    """
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)

    def decode(reply: Any) -> bool:
        match reply[0]:
            case b"held":
                raise _held(session_id, reply[1])
            case b"purged":
                raise _purged(session_id)
            case b"incomplete":
                raise SessionIncomplete(
                    f"a part of session {session_id!r} may be in the archive alone: with archive= it is woken first"
                )
        return bool(reply[0] == b"popped")

    return Call(
        script("pop"),
        [
            keys.messages(session),
            keys.metadata(session),
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.recent_requests(session),
            keys.holds,
        ],
        [session, request or os.urandom(8), last.epoch, last.total, b"" if owner is None else encode_owner(owner)],
        decode,
    )


def _to_record(span: timedelta | Keep | None) -> bytes | int:
    """The script argument that records a span: '-' deletes the recorded one, empty leaves it."""
    return b"" if isinstance(span, Keep) else span_ms(span) or b"-"


def _purged(session_id: str) -> SessionPurged:
    return SessionPurged(f"session {session_id!r} was purged; use another id, or allow_reuse=True to begin it anew")


def _held(session_id: str, hold: bytes) -> SessionHeld:
    reason = to_hold(hold)
    return SessionHeld(f"session {session_id!r} is under a legal hold: {reason.reason if reason else ''}")
