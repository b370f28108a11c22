"""The client of google-cloud-storage, set up for an archive, and every private attribute of the library that we use.

A test fails if the library renames one, and if another file uses one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.request import getproxies

import certifi
import google.auth
from google.auth.credentials import Credentials
from google.auth.transport.requests import Request
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from torpor.history.protocol import bounded_session
from torpor.worker.archive.stores.transport import Authorized, Session, Transport


def make_client(threads: int) -> storage.Client:
    """A client for so many threads, with the credentials of the environment."""
    client = storage.Client(project=None, credentials=_credentials())  # the archive needs no project
    http: Any = client._http
    if not http.is_mtls:  # else the library has connections of its own
        # The session's own pool has 10 connections and warns beyond.
        http.adapters = bounded_session(threads=threads).adapters
        http._auth_request_session.adapters = bounded_session(retries=3).adapters  # so many as the library's own
    # Read proxies and certificates from the environment once. Otherwise requests reads all of it for each request and
    # looks for a .netrc, which is a third of the CPU of an upload.
    found = http.merge_environment_settings(client._connection.API_BASE_URL, {}, None, None, None)
    http.proxies, http.verify, http.trust_env = found["proxies"], found["verify"], False
    # Otherwise the library asks for the bucket's metadata, for its traces: in the background, with retries of its own,
    # and with a permission (storage.buckets.get) that archiving does not need.
    client._bucket_metadata_cache = None
    return client


def _credentials() -> Credentials | None:
    """The credentials of the environment; None for an emulator."""
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return None
    found: Credentials = google.auth.default(scopes=storage.Client.SCOPE, request=Request(bounded_session()))[0]
    return found


class Connected(NamedTuple):
    """How to send requests of our own. `server` is the URL of Cloud Storage, `agent` the User-Agent."""

    session: Session
    server: str
    agent: str


def connected(client: storage.Client, threads: int) -> Connected:
    """A client's connection for requests of our own.

    The session is a Transport, or goes through the client's own session if there is a proxy, a client certificate or
    a server whose certificate is not to be checked.
    """
    connection = client._connection
    server = connection.get_api_base_url_for_mtls()
    http: Any = client._http
    if getproxies() or http.is_mtls or not http.verify:
        return Connected(Authorized(http), server, connection.user_agent)
    trusted = certifi.where() if http.verify is True else http.verify
    session = Transport(server, client._credentials, threads=threads, ca_certs=trusted)
    return Connected(session, server, connection.user_agent)


class DescribedBlob(storage.Blob):  # type: ignore[misc] # the library is untyped
    """A blob to upload with a description of our own: the library's description leaves a temporary hold out."""

    def __init__(self, described: Mapping[str, Any], bucket: storage.Bucket, *, part: int) -> None:
        """`part` is how many bytes are sent in one request."""
        super().__init__(described["name"], bucket, chunk_size=part)
        self._described = described

    def _get_writable_metadata(self) -> dict[str, Any]:
        return dict(self._described)

    def delete(self, *_: Any, **__: Any) -> None:
        """Delete nothing. The library deletes an upload with a wrong checksum, whoever relies on it by then."""


def properties(resource: storage.Blob | storage.Bucket) -> Mapping[str, Any]:
    """A blob or bucket as the JSON API described it last. The library's public properties leave some of it out."""
    described: Mapping[str, Any] = resource._properties
    return described


def may_pass(error: Exception) -> bool:
    """True if the library would try a request again after this error. It has no public function for it."""
    return bool(DEFAULT_RETRY._predicate(error))
