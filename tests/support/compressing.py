"""Deployments that compress, all of them in a run with `--compression`; and the elements that Redis then has."""

from __future__ import annotations

import os
from collections.abc import Callable

import redis

from support.keyspace import raw
from support.stored_sessions import HOUR
from torpor.history import compression
from torpor.history.calls import configuration
from torpor.history.compression import DICTIONARY, Compression
from torpor.history.elements import is_record
from torpor.history.protocol import SessionStore


def compress_everything() -> None:
    """Have all deployments compress, and each element of a chat, also if it gets longer: tests have short ones.

    Processes that tests start compress what gets shorter, once a worker has said so.
    """
    os.environ["TORPOR_COMPRESSION"] = Compression.ZSTD
    configuration.UNRECORDED = Compression.ZSTD
    vars(compression)["_stored"] = also_if_longer(compression._stored)


def also_if_longer(usual: Callable[[bytes, Compression], bytes]) -> Callable[[bytes, Compression], bytes]:
    """How an element is stored if all are compressed that can be read so."""

    def stored(element: bytes, how: Compression) -> bytes:
        found = usual(element, how)
        if (
            how is Compression.NONE
            or not element
            or found != element
            or is_record(element)
            or len(element) > compression._LONGEST
        ):
            return found
        return compression._MARK + compression._tools.compressor.compress(element)[len(compression._MAGIC) :]

    return stored


def set_to(client: redis.Redis, how: Compression) -> SessionStore:
    """Record how messages are written, as a worker does; returns a store that knows."""
    store = SessionStore(client)
    store.configure(idle=HOUR, max_age=None, compression=how)
    return store


def stored(client: redis.Redis, session_id: str = "s") -> list[bytes]:
    [key] = raw(client, "KEYS", f"*:m:{session_id}")
    elements: list[bytes] = raw(client, "LRANGE", key, 0, -1)
    return elements


def compressed(client: redis.Redis, session_id: str = "s") -> list[bool]:
    return [element[0] == 0x80 + DICTIONARY for element in stored(client, session_id)]
