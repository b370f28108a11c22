"""Which ids of sessions, owners, namespaces and shard counts there may be."""

from __future__ import annotations

import re

from torpor.history.errors import InvalidArgument, InvalidOwner, InvalidSessionId

DEFAULT_NAMESPACE = "torpor"
DEFAULT_SHARDS = 256
MAX_SHARDS = 16_384
MAX_ID_BYTES = 1_024

_NAMESPACE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def encode_session_id(session_id: str) -> bytes:
    """The UTF-8 form of a session id of 1 to 1,024 bytes; raises InvalidSessionId."""
    return _encode_id(session_id, "session id", InvalidSessionId)


def encode_owner(owner: str) -> bytes:
    """The UTF-8 form of an owner of 1 to 1,024 bytes; raises InvalidOwner."""
    return _encode_id(owner, "owner", InvalidOwner)


def _encode_id(value: str, what: str, error: type[InvalidArgument]) -> bytes:
    if not isinstance(value, str):
        raise error(f"{what} must be text, not {type(value).__name__}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError as exc:
        raise error(f"{what} has a lone surrogate, which has no UTF-8 form") from exc
    if not encoded:
        raise error(f"{what} must not be empty")
    if len(encoded) > MAX_ID_BYTES:
        raise error(f"{what} has {len(encoded):,} bytes of UTF-8; {MAX_ID_BYTES:,} is the limit")
    return encoded


def check_session_id(session_id: str) -> str:
    """The session id, if it is valid; raises InvalidSessionId."""
    encode_session_id(session_id)
    return session_id


def check_owner(owner: str) -> str:
    """The owner, if it is valid; raises InvalidOwner."""
    encode_owner(owner)
    return owner


def check_namespace(namespace: str) -> str:
    """The namespace, if it is valid in a hash tag; raises InvalidArgument."""
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise InvalidArgument("namespace must be 1 to 64 letters, digits, '_', '.', ':' or '-'")
    return namespace


def check_shards(shards: int) -> int:
    """The shard count, if it is a whole number from 1 to 16,384; raises InvalidArgument."""
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
        raise InvalidArgument(f"shards must be a whole number from 1 to {MAX_SHARDS:,}")
    return shards
