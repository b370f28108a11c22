"""Commands are packed as redis-py packs them; a large argument is a part as it is."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions
from redis.connection import HiredisRespSerializer

from torpor.history.clients.packing import PACKER

LARGE = b"x" * (1024 * 1024 + 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("PING",),
        ("CONFIG GET", "a"),
        (b"SET", "\u00e4", 1, 2.5, b"y"),
        ("EVALSHA", b"sha", 0, bytearray(b"x"), memoryview(b"y")),
        ("EVALSHA", b"sha", 1, b"k", LARGE, "z", 7, LARGE),
    ],
)
def test_a_command_has_the_bytes_that_redis_py_sends(arguments: tuple[Any, ...]) -> None:
    assert b"".join(PACKER.pack(*arguments)) == b"".join(HiredisRespSerializer().pack(*arguments))


def test_a_large_argument_is_not_copied() -> None:
    assert any(part is LARGE for part in PACKER.pack("SET", b"k", LARGE))


def test_an_argument_of_another_type_is_refused_as_redis_py_refuses_it() -> None:
    with pytest.raises(redis.exceptions.DataError):
        PACKER.pack("SET", None, LARGE)
