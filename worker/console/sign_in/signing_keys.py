"""The public keys of whoever signs, read again when they may have changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

import httpx2

from torpor.history.protocol import TransientError

log = logging.getLogger("torpor.console")

_FETCH_SECONDS = 5
_FRESH_SECONDS = 3_600
# Keys that can't be read again are used for so long.
_KEPT_SECONDS = 6 * 3_600
# An unknown key may be a new one. Nobody can have the keys read more often than this.
_AGAIN_SECONDS = 60
# While there are no keys at all.
_RETRY_SECONDS = 5


class KeysUnavailable(TransientError):
    """The public keys can't be read, so nobody can be recognised."""


class SigningKeys:
    """A JSON object of key ids and public keys in PEM at a URL. Safe to share among threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._keys: Mapping[str, str] = {}
        self._read_at = self._tried_at = -float("inf")

    def of(self, key_id: str) -> str | None:
        """The key with this id; None if there is none. Raises KeysUnavailable."""
        with self._lock:
            now = time.monotonic()
            if self._is_due(key_id, now):
                self._tried_at = now
                self._read()
            if time.monotonic() - self._read_at > _KEPT_SECONDS:
                raise KeysUnavailable("the keys that verify who you are can't be read: try again in a minute")
            return self._keys.get(key_id)

    def _is_due(self, key_id: str, now: float) -> bool:
        pause = _AGAIN_SECONDS if self._keys else _RETRY_SECONDS
        changed = key_id not in self._keys or now - self._read_at > _FRESH_SECONDS
        return changed and now - self._tried_at >= pause

    def _read(self) -> None:
        try:
            reply = httpx2.get(self._url, timeout=_FETCH_SECONDS)
            keys = reply.raise_for_status().json()
            if not isinstance(keys, dict) or not keys:
                raise ValueError("no JSON object of keys")
        except (httpx2.HTTPError, ValueError) as exc:
            log.warning("the public keys at %s can't be read: %s", self._url, type(exc).__name__)
            return
        self._keys = keys
        self._read_at = time.monotonic()
