"""Packing of commands: a large argument is sent as it is, where hiredis would copy it twice."""

from __future__ import annotations

from contextlib import suppress
from sys import getsizeof
from typing import Any

from redis.connection import HiredisRespSerializer, PythonRespSerializer
from redis.utils import HIREDIS_AVAILABLE

if HIREDIS_AVAILABLE:
    from hiredis import pack_command

_LARGE = 1024 * 1024
_PLAIN = {bytes, str, int, float}


class Packer:
    """The `command_packer` of a blocking connection. Has no state, so many connections may share it."""

    def __init__(self) -> None:
        self._as_it_is: Any = PythonRespSerializer(_LARGE, _encode)
        self._copied: Any = HiredisRespSerializer() if HIREDIS_AVAILABLE else self._as_it_is

    def pack(self, *args: Any) -> list[Any]:
        """The parts of a command, to be sent one after the other."""
        packed: list[Any]
        if max(map(getsizeof, args)) > _LARGE and all(type(arg) in _PLAIN for arg in args):
            packed = self._as_it_is.pack(*args)  # redis-py refuses other types, each with its error
            return packed
        if HIREDIS_AVAILABLE and isinstance(args[0], str) and " " not in args[0]:  # else redis-py splits the name
            with suppress(TypeError):  # for a type that redis-py converts or refuses
                return [pack_command(args)]
        packed = self._copied.pack(*args)
        return packed


def _encode(argument: bytes | str | float) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


PACKER = Packer()
