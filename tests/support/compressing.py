"""Deployments that compress, for a run of all tests with `--compression`."""

from __future__ import annotations

import os

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
    usual = compression._stored

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

    vars(compression)["_stored"] = stored
