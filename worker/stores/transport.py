"""How uploads are sent: straight over urllib3, at half of what requests costs.

google-cloud-storage takes "any object that defines request() with the same interface as requests.Session.request".
Source: https://cloud.google.com/python/docs/reference/storage/latest/google.cloud.storage.client.Client
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import google.auth.credentials
import google.auth.transport.urllib3
import requests
import urllib3
from requests.structures import CaseInsensitiveDict


class UploadTransport:
    """Sends requests with credentials, and keeps connections open. Safe to share among threads.

    Knows neither proxies nor certificates of the environment's.
    """

    def __init__(self, credentials: google.auth.credentials.Credentials, *, threads: int) -> None:
        # Without redirects and retries: the library above has its own.
        pool = urllib3.PoolManager(maxsize=threads, retries=False)
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
        response.status_code, response.reason, response.url = answer.status, answer.reason, url
        response.headers = CaseInsensitiveDict(answer.headers)
        response.raw = io.BytesIO(answer.data)
        return response
