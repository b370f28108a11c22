"""Sessions of browsers in the console that have ended before their cookies expire, for all processes of the console."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from torpor.history.keys import console_ended_key
from torpor.history.store.blocking_runner import BlockingRunner


class EndedInBrowsers(BlockingRunner):
    """Notes which sessions of browsers have ended, by their random numbers."""

    def note_ended(self, number: str, kept: timedelta) -> None:
        """Note that somebody has signed out; `kept` is how long the cookie might still be shown."""
        with self._kind.translated:
            self._client.set(console_ended_key(self._namespace, number), b"1", px=kept)

    def has_ended(self, number: str) -> bool:
        """True if that was noted."""
        with self._kind.translated:
            found: Any = self._client.exists(console_ended_key(self._namespace, number))
        return bool(found)
