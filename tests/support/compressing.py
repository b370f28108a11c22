"""Deployments that compress, for a run of all tests with `--compression`."""

from __future__ import annotations

import os
from collections.abc import Callable

from torpor.history import compression
from torpor.history.calls import configuration
from torpor.history.compression import Compression
from torpor.history.elements import is_record


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
