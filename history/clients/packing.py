"""Packing of commands: a large argument is sent as it is, where hiredis would copy it twice."""

from __future__ import annotations

from typing import Any

from redis.connection import HiredisRespSerializer, PythonRespSerializer
from redis.utils import HIREDIS_AVAILABLE

_LARGE = 1024 * 1024
_PLAIN = {bytes, str, int, float}


class Packer:
    """The `command_packer` of a blocking connection. Has no state, so many connections may share it."""

    def __init__(self) -> None:
        self._as_it_is: Any = PythonRespSerializer(_LARGE, _encode)
        self._copied: Any = HiredisRespSerializer() if HIREDIS_AVAILABLE else self._as_it_is

    def pack(self, *args: Any) -> list[Any]:
        """The parts of a command, to be sent one after the other."""
        is_large = any(isinstance(arg, bytes) and len(arg) > _LARGE for arg in args)
        if is_large and all(type(arg) in _PLAIN for arg in args):  # redis-py refuses others, each with its error
            as_they_are: list[Any] = self._as_it_is.pack(*args)
            return as_they_are
        packed: list[Any] = self._copied.pack(*args)
        return packed


def _encode(argument: bytes | str | float) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


PACKER = Packer()
