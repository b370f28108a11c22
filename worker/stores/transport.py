"""How uploads are sent: straight over urllib3, at half of what requests costs.

google-cloud-storage takes "any object that defines request() with the same interface as requests.Session.request".
Source: https://cloud.google.com/python/docs/reference/storage/latest/google.cloud.storage.client.Client
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google.auth.credentials
import google.auth.transport.urllib3
import requests
import urllib3
from requests.structures import CaseInsensitiveDict


class UploadTransport:
    """Sends requests with credentials, and keeps connections open. Safe to share among threads.

    Knows neither proxies nor client certificates. `ca_certs` is a file of those to trust, or a folder.
    """

    def __init__(self, credentials: google.auth.credentials.Credentials, *, threads: int, ca_certs: str) -> None:
        # Without redirects and retries: the library above has its own.
        trusted = {"ca_cert_dir" if Path(ca_certs).is_dir() else "ca_certs": ca_certs}
        pool = urllib3.PoolManager(maxsize=threads, retries=False, **trusted)  # type: ignore[arg-type]
        self._http = google.auth.transport.urllib3.AuthorizedHttp(credentials, http=pool)

    def request(
        self,
        method: str,
        url: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: tuple[float, float] = (5.0, 30.0),
        **_: Any,
    ) -> requests.Response:
        """As requests.Session.request, with the timeouts for connecting and reading in seconds.

        Raises requests.ConnectionError.
        """
        connect, read = timeout
        limits = urllib3.Timeout(connect=connect, read=read)
        try:
            answer = self._http.urlopen(method, url, body=data, headers=headers, timeout=limits)
        except urllib3.exceptions.HTTPError as exc:
            raise requests.ConnectionError(str(exc)) from exc
        response = requests.Response()
        response.request = requests.PreparedRequest()
        response.request.method, response.request.url = method, url
        response.status_code, response.reason, response.url = answer.status, answer.reason, url
        response.headers = CaseInsensitiveDict(answer.headers)
        response.raw = io.BytesIO(answer.data)
        return response
