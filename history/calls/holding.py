"""Legal holds: a session under one must not be erased."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from torpor.history.calls import refusals
from torpor.history.calls.call import Call, Deployment, to_moment_if_readable, to_ms
from torpor.history.calls.session_info import damage_of_hold, hold_of, parts_of_hold, to_hold
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import InvalidReason
from torpor.history.ids import encode_owner, encode_session_id
from torpor.history.outcomes import HoldKind, HoldOutcome, StandingHold
from torpor.history.owners import ANY_OWNER, Caller
from torpor.history.scripts import script
from torpor.history.session import Lease, LegalHold, SessionInfo

_LONG_AGO = datetime.fromtimestamp(0, UTC)


def hold(
    deployment: Deployment, session_id: str, reason: str, *, owner: Caller = None, by: str = ""
) -> Call[HoldOutcome]:
    """Put a session under a legal hold: it is neither cleared nor purged.

    An erasure that was accepted before goes on. `by` says who sets it. If it is called again, the newer reason and the
    newer `by` count. Raises InvalidReason,
    OwnerMismatch, and SessionNotFound if the session may be asleep and another caller has put it under a hold.
    """
    return _hold(deployment, session_id, b"set", owner, (_encode_reason(reason), _encode_text(by)))


def release_hold(deployment: Deployment, session_id: str, *, owner: Caller = None) -> Call[HoldOutcome]:
    """Release a session's own legal hold; that of its owner stays. Raises OwnerMismatch; SessionNotFound as `hold`."""
    return _hold(deployment, session_id, b"release", owner)


def note_owner_hold(deployment: Deployment, session_id: str) -> Call[HoldOutcome]:
    """Have the worker update a session's objects in the archive after a hold of its owner was set or released."""
    return _hold(deployment, session_id, b"owner", ANY_OWNER)


def _hold(
    deployment: Deployment, session_id: str, what: bytes, owner: Caller, texts: tuple[bytes, bytes] = (b"", b"")
) -> Call[HoldOutcome]:
    keys = session_keys(deployment.keyspace, session_id)
    reason, by = texts

    def decode(reply: Any) -> HoldOutcome:
        if reply[0] != b"purged":
            refusals.check(session_id, owner, reply)
        return HoldOutcome(reply[0].decode())

    return Call(
        script("hold"),
        [keys.messages, keys.metadata, keys.due, keys.tally, keys.holds],
        [keys.session, what, reason, deployment.caller(owner), by],
        decode,
        repeatable=what != b"release",  # sent again, it would say that there was no hold
    )


def hold_owner(
    deployment: Deployment, shard: int, owner: str, reason: str | None, by: str = ""
) -> Call[datetime | None]:
    """Put an owner under a legal hold in a shard, or release it with None; returns since when that hold stands.

    None if there was none. A damaged one stands since 1970. `by` says who sets it. After a release in all shards,
    `note_owner_release` comes.
    """
    return Call(
        script("hold_owner"),
        [deployment.keyspace.shard(shard).holds],
        [encode_owner(owner), b"" if reason is None else _encode_reason(reason), _encode_text(by)],
        lambda reply: (parts_of_hold(reply)[0] or _LONG_AGO) if reply else None,
        repeatable=reason is not None,
    )


def note_owner_release(deployment: Deployment, owner: str, since: datetime) -> Call[bool]:
    """Note that the legal hold of an owner was released in all shards; it was there `since` then."""
    encoded = encode_owner(owner)
    return Call(
        script("note_owner_release"),
        [deployment.keyspace.of(encoded).holds],
        [encoded, to_ms(since)],
        bool,
    )


def find_release(deployment: Deployment, session_id: str) -> Call[datetime | None]:
    """Find when the own legal hold of a session was last released; None also if the record of that is damaged."""
    return _find_release(deployment, b"session", encode_session_id(session_id))


def find_owner_release(deployment: Deployment, owner: str) -> Call[datetime | None]:
    """Find when the legal hold of an owner was last released; None also if the record of that is damaged."""
    return _find_release(deployment, b"owner", encode_owner(owner))


def _find_release(deployment: Deployment, kind: bytes, id: bytes) -> Call[datetime | None]:  # noqa: A002 - of either
    # The shard of an owner is chosen as that of a session with the same name.
    return Call(
        script("find_release"),
        [deployment.keyspace.of(id).holds],
        [kind, id],
        to_moment_if_readable,
    )


def find_hold(deployment: Deployment, session_id: str, owners: Sequence[str]) -> Call[LegalHold | None]:
    """Find the legal hold of a session, its own or that of one of these owners."""
    keys = session_keys(deployment.keyspace, session_id)
    return Call(
        script("find_hold"),
        [keys.holds],
        [keys.session, *map(encode_owner, owners)],
        lambda reply: to_hold(reply, session_id, may_be_owners=bool(owners)),
    )


def find_owner_hold(deployment: Deployment, session_id: str, owners: Sequence[str]) -> Call[LegalHold | None]:
    """Find the legal hold of one of these owners, in the shard of a session."""
    keys = deployment.keyspace.of(encode_session_id(session_id))
    return Call(
        script("find_hold"),
        [keys.holds],
        [b"", *map(encode_owner, owners)],
        lambda reply: hold_of(reply, f"owner {', '.join(map(repr, owners))}"),
    )


def list_holds(
    deployment: Deployment, shard: int, cursor: bytes, count: int, *, owners_alone: bool = False
) -> Call[tuple[bytes, list[StandingHold], list[str]]]:
    """Do one step of a walk over the legal holds in a shard: the next cursor, b"0" at the end, and the holds.

    With `owners_alone`, the sound holds of owners, which stand in each shard, are left out, and the owners come last.
    """

    def decode(reply: Any) -> tuple[bytes, list[StandingHold], list[str]]:
        cursor, holds, owners = reply
        return cursor, _all_standing(holds), [owner.decode(errors="replace") for owner in owners]

    return Call(
        script("list_holds"), [deployment.keyspace.shard(shard).holds], [cursor, count, int(owners_alone)], decode
    )


def holds_of(deployment: Deployment, session_id: str, owners: Sequence[str]) -> Call[list[StandingHold]]:
    """Find the legal holds that keep a session: its own, and those of these owners."""
    keys = session_keys(deployment.keyspace, session_id)
    return Call(
        script("holds_of"),
        [keys.holds],
        [keys.session, *map(encode_owner, owners)],
        _all_standing,
    )


def owner_holds_in(deployment: Deployment, shard: int, owners: Sequence[str]) -> Call[list[StandingHold]]:
    """Find the legal holds of these owners in a shard."""
    keys = [deployment.keyspace.shard(shard).holds]
    return Call(script("holds_of"), keys, [b"", *map(encode_owner, owners)], _all_standing)


def _all_standing(parts: Sequence[bytes]) -> list[StandingHold]:
    """The holds in a reply, of which each has five parts."""
    return [_standing(*each) for each in zip(*(parts[first::5] for first in range(5)), strict=True)]


def _standing(kind: bytes, id: bytes, value: bytes, by: bytes, caller: bytes) -> StandingHold:  # noqa: A002
    since, reason = parts_of_hold(value)
    whose, named = HoldKind.SESSION if kind == b"s" else HoldKind.OWNER, id.decode(errors="replace")
    return StandingHold(
        kind=whose,
        id=named,
        since=since,
        reason=reason,
        by=by.decode(errors="replace"),
        caller=caller[1:].decode(errors="replace") if caller.startswith(b"=") else None,
        damage=None if since else damage_of_hold(f"{whose} {named!r}"),
    )


def note_hold_applied(deployment: Deployment, lease: Lease, info: SessionInfo) -> Call[bool]:
    """Note that a session's objects carry the legal hold in `info`, or none; False if the hold has changed since."""
    keys = session_keys(deployment.keyspace, lease.session_id)
    return Call(
        script("note_hold_applied"),
        [keys.messages, keys.metadata, keys.due, keys.holds],
        [keys.session, lease.token, info.hold.value if info.hold else b"", *deployment.defaults],
        lambda reply: bool(reply == b"done"),
    )


def _encode_reason(reason: str) -> bytes:
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidReason("a legal hold needs a reason, as text")
    return _encode_text(reason)


def _encode_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidReason("the text has a lone surrogate, which has no UTF-8 form") from exc
