"""The limits within which a request and its reply must pass, whoever sends it."""

from __future__ import annotations

import time

# Beside the body: the head of a reply, interim replies, and what chunks add.
_HEAD = 64 * 1024


class Limits:
    """How long a request with its reply may take from now on, and how large the reply's body may be."""

    def __init__(self, seconds: float, most: int) -> None:
        self._end = time.monotonic() + seconds
        self._most = most
        self._received = self._body = 0

    @property
    def seconds_left(self) -> float:
        """The seconds that are left; raises TimeoutError."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request timed out")
        return left

    def check(self, received: int, body: int) -> None:
        """Count bytes that have arrived, and those of the body among them; raises ConnectionError and TimeoutError."""
        self._received += received
        self._body += body
        if self._body > self._most or self._received > 2 * self._most + _HEAD:
            raise ConnectionError(f"the reply is larger than the {self._most} bytes that were asked for")
        _ = self.seconds_left
