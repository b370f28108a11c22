"""The errors of Cloud Storage and of its client as those of an archive."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import google.auth.exceptions
import requests
from google.api_core import exceptions as api
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from torpor.history.protocol import TorporError
from torpor.worker.archive.stores import StoredObject
from torpor.worker.archive.stores.resources import Resource
from torpor.worker.errors import (
    ArchiveCorrupt,
    ArchiveMisconfigured,
    ArchiveRefused,
    ArchiveUnavailable,
    ObjectNotFound,
)

# The errors of a request that failed for a reason which is not its object's.
_ERRORS = (
    api.GoogleAPIError,
    google.auth.exceptions.GoogleAuthError,
    InvalidResponse,
    requests.RequestException,
    OSError,
)


class Translation:
    """Translates the errors of requests for one archive. `probe` lists its bucket, or raises such an error."""

    def __init__(self, url: str, bucket: str, probe: Callable[[], None]) -> None:
        """`url` is the archive's."""
        self._url = url
        self._bucket = bucket
        self._probe = probe

    @contextmanager
    def translated(self, name: str | None = None) -> Iterator[None]:
        """Raise an ArchiveUnavailable; for a 404 of the object with this name, ObjectNotFound."""
        try:
            yield
        except api.NotFound as exc:
            raise self._missing(name, exc) from exc
        except DataCorruption as exc:
            raise ArchiveCorrupt(f"{self._url} refused the upload: {brief(exc)}") from exc
        except _ERRORS as exc:
            raise self._failed(exc) from exc

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Blame what was sent for a 400, unless the bucket answers so to a listing too."""
        try:
            yield
        except api.BadRequest as exc:
            self._probe()
            raise ArchiveCorrupt(f"{self._url} refused the upload: {brief(exc)}") from exc

    def _missing(self, name: str | None, error: Exception) -> TorporError:
        """The error for a 404: the bucket is missing if it can't be listed either, else the object with this name."""
        try:
            self._probe()
        except api.NotFound:
            return ArchiveMisconfigured(f"bucket {self._bucket!r} does not exist; create it first")
        except _ERRORS as exc:
            return self._failed(exc)
        if name is not None:
            return ObjectNotFound(f"{self._url}/{name} does not exist")
        return self._failed(error)

    def _failed(self, error: Exception) -> ArchiveUnavailable:
        """The error for a failure that is no object's: may it pass, or does it meet every request?"""
        if _refuses_credentials(error):
            return ArchiveMisconfigured(f"{self._url} refuses these credentials: {brief(error)}")
        if isinstance(error, api.BadRequest):
            return ArchiveMisconfigured(f"{self._url} refuses every request: {brief(error)}")
        return ArchiveUnavailable(f"{self._url} can't be reached or can't serve now: {brief(error)}")


def undeletable(url: str, stored: StoredObject, resource: Resource, error: Exception) -> ArchiveRefused:
    """The error for an object that may not be deleted: why, and until when. `resource` as it is now, if known."""
    until = stored.retained_until if stored.retained_until and stored.retained_until > datetime.now(UTC) else None
    reasons = [brief(error)]
    if until:
        reasons.insert(0, f"it is retained until {until.isoformat(timespec='seconds')}")
    if stored.held:
        kind = "an event-based" if resource.get("eventBasedHold") else "a temporary"
        reasons.insert(0, f"{kind} hold is on it")
    message = f"{url}/{stored.name} may not be deleted: {'; '.join(reasons)}"
    return ArchiveRefused(message, until=until, held=stored.held)


def ungranted(url: str, what: str, permission: str, error: Exception) -> ArchiveRefused:
    """The error for a missing permission: what the credentials may not do, and what to grant."""
    return ArchiveRefused(f"{url}: these credentials may not {what}; grant {permission} on it to them: {brief(error)}")


def brief(error: Exception) -> str:
    """One line of an error's text, without the id of a resumable upload, which lets anybody write to it."""
    text = re.sub(r"upload_id=[^&\s]*", "upload_id=...", str(error)) or type(error).__name__
    return text.splitlines()[0][:300]


def _refuses_credentials(error: Exception) -> bool:
    """True if other credentials are needed, or other rights; False if the token's server only can't be reached."""
    if isinstance(error, google.auth.exceptions.TransportError):
        return False
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        return not error.retryable
    return isinstance(error, (api.Unauthorized, api.Forbidden))
