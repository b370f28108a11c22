"""Adoption: look at the messages of another library, take them, write them page by page, delete them; and give back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from torpor.history.adoption import Adoption, Look, too_large
from torpor.history.calls import refusals
from torpor.history.calls.call import PAGE_MESSAGES, Call, Deployment, expiry_args, span_ms
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import MessageCorrupt, NotAdoptable, SessionExists, SessionPurged, StagingLost
from torpor.history.expiry import MAX_EXPIRY, Expiry
from torpor.history.formats.layout import Layout
from torpor.history.keys import adopting_key, returning_key
from torpor.history.owners import AnyOwner, Caller, mismatch, named_owner
from torpor.history.scripts import script


def peek_list(
    namespace: str, session_id: str, layout: Layout, start: int, *, page_bytes: int, max_bytes: int
) -> Call[Look | None]:
    """Look at a page of another library's messages, or of those that were taken from it.

    Raises NotAdoptable, also for a message of more than `max_bytes` that was not taken yet.
    """
    key = layout.key(session_id)

    def decode(reply: Any) -> Look | None:
        match reply:
            case []:
                return None
            case [kind]:
                raise NotAdoptable(key, f"it is a {kind.decode()} and no list")
            case [b"large", position]:
                raise too_large(key, int(position), max_bytes)
        mark, total, ttl, *messages = reply
        token = mark.rpartition(b":")[0].decode() or None
        return Look(token, int(total), idle_of(int(ttl)), start, messages)

    return Call(
        script("peek_list"),
        [key, adopting_key(namespace, key)],
        [start, int(layout.newest_first), page_bytes, PAGE_MESSAGES, max_bytes],
        decode,
    )


def begin_adoption(
    deployment: Deployment, adoption: Adoption, *, owner: Caller, allow_reuse: bool, only_known: bool = False
) -> Call[Adoption]:
    """Begin an adoption; the result is the running one, which another caller may have begun.

    Raises OwnerMismatch, SessionPurged unless `allow_reuse`, and SessionNotFound with `only_known` if the session may
    be asleep.
    """
    keys = session_keys(deployment.keyspace, adoption.session_id)

    def decode(reply: Any) -> Adoption:
        _check_refusal(reply, adoption, owner)
        running = Adoption.parse(adoption.session_id, reply[1])
        if not isinstance(owner, AnyOwner) and running.owner not in (None, owner):
            raise mismatch(adoption.session_id, owner)
        return running

    return Call(
        script("begin_adoption"),
        [keys.adoptions, keys.metadata, keys.due, keys.messages],
        [keys.session, adoption.state, deployment.caller(owner), int(allow_reuse), int(only_known)],
        decode,
    )


def take_list(namespace: str, session_id: str, layout: Layout, token: str, total: int) -> Call[bool]:
    """Take another library's messages if there are `total` of them; False if not, or if a list is taken already."""
    key = layout.key(session_id)
    return Call(script("take_list"), [key, adopting_key(namespace, key)], [token.encode(), total], bool)


def adopt(
    deployment: Deployment,
    adoption: Adoption,
    further: Adoption,
    messages: Sequence[bytes],
    *,
    expiry: Expiry,
    owner: Caller,
    allow_reuse: bool,
) -> Call[Adoption | None]:
    """Write a page. The result is `further`, or the adoption as another caller has left it: None if it has ended.

    Raises OwnerMismatch, KindMismatch, and SessionPurged unless `allow_reuse`.
    """
    keys = session_keys(deployment.keyspace, adoption.session_id, named_owner(owner))
    given = deployment.resolve(adoption.session_id, owner, expiry)

    def decode(reply: Any) -> Adoption | None:
        if reply[0] == b"moved":
            return Adoption.parse(adoption.session_id, reply[1]) if reply[1] else None
        _check_refusal(reply, adoption, owner)
        return further

    return Call(
        script("adopt"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.recent_requests,
            keys.adoptions,
            *keys.owners,
        ],
        [
            keys.session,
            bytes(adoption),
            bytes(further),
            *deployment.defaults,
            *expiry_args(given),
            deployment.caller(owner),
            int(allow_reuse),
            *deployment.stored(messages),
        ],
        decode,
    )


def delete_taken(namespace: str, session_id: str, layout: Layout, token: str) -> Call[bool]:
    """Delete the taken messages after they are written; False if they are gone already."""
    return Call(script("delete_taken"), [adopting_key(namespace, layout.key(session_id))], [token.encode()], bool)


def delete_companion(key: bytes, kind: str) -> Call[bool]:
    """Delete a key that another library keeps beside a session's messages, if it is of a type; False if it is not."""
    return Call(script("delete_companion"), [key], [kind.encode()], bool)


def end_adoption(deployment: Deployment, adoption: Adoption) -> Call[bool]:
    """End an adoption; False if it has ended already, or if another page was written."""
    keys = session_keys(deployment.keyspace, adoption.session_id)
    return Call(script("end_adoption"), [keys.adoptions], [keys.session, bytes(adoption)], bool)


def adoptions(deployment: Deployment, shard: int) -> Call[list[tuple[str, Adoption | MessageCorrupt]]]:
    """List the unfinished adoptions of a shard by session; an error stands in the place of a damaged record."""
    key = deployment.keyspace.shard(shard).adoptions

    def parsed(session_id: str, value: bytes) -> Adoption | MessageCorrupt:
        try:
            return Adoption.parse(session_id, value)
        except MessageCorrupt as error:
            return MessageCorrupt(
                f"{error}; delete its field in the hash {key.decode()} and adopt the session again: nothing is lost, "
                "and messages that were written already may come twice"
            )

    def decode(reply: Any) -> list[tuple[str, Adoption | MessageCorrupt]]:
        sessions = [session.decode(errors="replace") for session in reply[::2]]
        return [(each, parsed(each, value)) for each, value in zip(sessions, reply[1::2], strict=True)]

    return Call(script("adoptions"), [key], [], decode)


def stage_return(
    namespace: str,
    key: bytes,
    token: bytes,
    messages: Sequence[bytes],
    *,
    staged: int,
    lease: timedelta,
    newest_first: bool = False,
) -> Call[None]:
    """Add a page, oldest first, to the `staged` messages that will be given back under `key`.

    Raises SessionExists and StagingLost.
    """

    def decode(reply: Any) -> None:
        _check_return(reply, key)

    return Call(
        script("stage_return"),
        [returning_key(namespace, key, token), key],
        [staged, span_ms(lease), int(newest_first), *messages],
        decode,
    )


def give_back(namespace: str, key: bytes, token: bytes, total: int, ttl: timedelta | None) -> Call[None]:
    """Give the staged messages to another library; raises SessionExists and StagingLost."""

    def decode(reply: Any) -> None:
        _check_return(reply, key)

    return Call(script("give_back"), [returning_key(namespace, key, token), key], [total, span_ms(ttl)], decode)


def idle_of(ttl_ms: int) -> timedelta | None:
    """The idle timeout for a remaining TTL, rounded up to whole seconds; None if the key had no TTL."""
    seconds = min(max(1, -(-ttl_ms // 1000)), MAX_EXPIRY // timedelta(seconds=1))
    return None if ttl_ms < 0 else timedelta(seconds=seconds)


def _check_refusal(reply: Any, adoption: Adoption, owner: Caller) -> None:
    if reply[0] == b"purged":
        raise SessionPurged(
            f"session {adoption.session_id!r} was purged: what another library has of it is adopted only with "
            "allow_reuse=True"
        )
    refusals.check(adoption.session_id, owner, reply)


def _check_return(reply: bytes, key: bytes) -> None:
    match reply:
        case b"exists":
            raise SessionExists(f"the key {key.decode()!r} exists already and is not replaced")
        case b"lost":
            raise StagingLost(f"the messages to give back under {key.decode()!r} have expired; start it again")
