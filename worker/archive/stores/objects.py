"""The objects of a bucket by the JSON API of Cloud Storage, one request each; its library sends large ones.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from secrets import token_hex
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import google_crc32c
import orjson
from google.api_core import exceptions as api
from google.api_core.retry import Retry

from torpor.worker.archive.stores.connection import Reply
from torpor.worker.archive.stores.google_client import may_pass
from torpor.worker.archive.stores.resources import Resource, sent_again
from torpor.worker.archive.stores.transport import Request, Session
from torpor.worker.errors import ArchiveCorrupt

_CHUNK = 1024 * 1024
_TIMEOUT = (5.0, 30.0)
_LONGEST_WAIT = 30
_PAGE = 1_000
# The most bytes of a description or an error, and of a page of a listing: Cloud Storage allows 8 KiB of metadata and
# 1 KiB of name for each object, and JSON can make six times as many of them.
_DESCRIPTION = 256 * 1024
_LISTING = _PAGE * 64 * 1024
# The fields that a listing asks for. All fields would be twice as many bytes.
_FIELDS = (
    "name,size,generation,metageneration,metadata,customTime,temporaryHold,eventBasedHold,retentionExpirationTime,retention,"
    "timeCreated,timeDeleted"
)
# What every listing asks for. Encoding it takes 9 µs.
_LISTED = urlencode({"maxResults": _PAGE, "fields": f"nextPageToken,items({_FIELDS})"})


def _wait_as_requested(error: Exception, *, longest: float = _LONGEST_WAIT) -> None:
    """Wait for as many seconds as Retry-After says. The library's own backoff with jitter follows.

    Raises the error instead if that is long: the session is safe in Redis, and a later sweep comes back to it.
    """
    response = getattr(error, "response", None)
    seconds = "" if response is None else response.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", seconds):  # if it is a date instead, the backoff is enough
        if int(seconds) > longest:
            raise error
        time.sleep(int(seconds))


# The library ignores Retry-After (google.api_core.retry, google.cloud.storage.retry).
_RETRY = Retry(predicate=may_pass, timeout=60.0, on_error=_wait_as_requested)


def patiently(patience: float | None = None) -> dict[str, Any]:
    """Arguments for a request of google-cloud-storage that may be repeated, within `patience` seconds if given.

    Half of them is for tries that fail, and half for the last try, which may wait for its reply.
    """
    if patience is None:
        return {"retry": _RETRY, "timeout": _TIMEOUT}
    half = patience / 2
    retry = Retry(
        predicate=may_pass, initial=half / 8, timeout=half, on_error=partial(_wait_as_requested, longest=half)
    )
    return {"retry": retry, "timeout": (half, half)}


class Objects:
    """The objects of a bucket as Cloud Storage describes them. Their names include the archive's prefix.

    A request whose error may pass is tried again for a minute, or within `patience` seconds. Raises
    google.api_core.exceptions, as google-cloud-storage does, and the errors of `session`. Without a `generation`, the
    current one is meant.
    """

    def __init__(
        self, session: Session, server: str, bucket: str, agent: str, *, patience: float | None = None
    ) -> None:
        """`server` is the URL of Cloud Storage, `agent` our User-Agent."""
        self._session = session
        self._patience = patience
        self._headers = {"User-Agent": agent}
        place = f"storage/v1/b/{quote(bucket, safe='')}/o"
        self._objects = f"{server}/{place}"
        self._insert = f"{server}/upload/{place}?uploadType=multipart"

    def insert(self, described: Resource, content: bytes, replacing: Resource | None = None) -> Resource:
        """Create an object; returns its description. Raises PreconditionFailed if there is one of its name.

        With `replacing`, take the place of an object that was described before, if nobody has changed it since. An
        object that a second try creates says so in its metadata.

        Source: https://cloud.google.com/storage/docs/json_api/v1/objects/insert and .../docs/uploading-objects
        """
        url = f"{self._insert}&{urlencode(creating(replacing))}"
        descriptions = chain([described], repeat(sent_again(described)))
        return _parsed(self._retrying(lambda: self._insert_once(url, next(descriptions), content)))

    def _insert_once(self, url: str, described: Resource, content: bytes) -> Reply:
        boundary = token_hex(16)  # no content has these 128 random bits
        body = b"--%b\r\nContent-Type: application/json\r\n\r\n%b\r\n--%b\r\nContent-Type: %b\r\n\r\n%b\r\n--%b--" % (
            boundary.encode(),
            orjson.dumps(described),
            boundary.encode(),
            described["contentType"].encode(),
            content,
            boundary.encode(),
        )
        return self._send_once("POST", url, body, content_type=f"multipart/related; boundary={boundary}")

    def list(self, prefix: str, *, generations: bool = False) -> Iterator[Resource]:
        """The objects whose names begin with a prefix, in the order of their names. Asks for a page at a time."""
        query = {"prefix": prefix}
        if generations:
            query["versions"] = "true"
        while True:
            page = _parsed(self._send("GET", f"{self._objects}?{_LISTED}&{urlencode(query)}", most=_LISTING))
            yield from page.get("items", ())
            token = page.get("nextPageToken")
            if not token:
                return
            if token == query.get("pageToken"):
                raise api.GoogleAPICallError("a listing can't go on: its reply has the token of this page again")
            query["pageToken"] = token

    def probe(self) -> None:
        """Ask for a listing of one object, without retries: raises an error if the bucket can't be listed."""
        self._send_once("GET", f"{self._objects}?maxResults=1")

    def describe(self, name: str, generation: int | None = None) -> Resource:
        """The description of an object; raises NotFound, as the methods below do."""
        return _parsed(self._send("GET", self._url(name, generation=generation)))

    def read(self, name: str, generation: int, size: int) -> bytes:
        """The content as it was uploaded, of `size` bytes; raises ArchiveCorrupt if it has another CRC32C.

        Source: https://cloud.google.com/storage/docs/json_api/v1/objects/get and .../docs/xml-api/reference-headers
        """
        # Without this header, Cloud Storage may unpack gzip before it sends it.
        answer = self._send(
            "GET", self._url(name, alt="media", generation=generation), most=size, accept_encoding="gzip"
        )
        sent = re.search(r"crc32c=([\w+/=]+)", answer.headers.get("x-goog-hash", ""))
        if sent and sent[1] != crc32c(io.BytesIO(answer.content)):
            raise ArchiveCorrupt(f"{name} is not what was sent: its CRC32C is not {sent[1]}")
        return answer.content

    def patch(self, described: Resource, changes: Resource) -> Resource:
        """Change an object that was described before; returns its new description.

        Raises PreconditionFailed if somebody has changed it since.
        Source: https://cloud.google.com/storage/docs/json_api/v1/objects/patch
        """
        expected = {"generation": described["generation"], "ifMetagenerationMatch": described["metageneration"]}
        url = self._url(described["name"], **expected)
        return _parsed(self._send("PATCH", url, orjson.dumps(changes), content_type="application/json"))

    def delete(self, name: str, generation: int, metageneration: int | None = None) -> None:
        """Delete a generation for good, also in a versioned bucket; with a metageneration, only if it has that one."""
        self._send("DELETE", self._url(name, generation=generation, ifMetagenerationMatch=metageneration))

    def _url(self, name: str, **query: str | int | None) -> str:
        asked = urlencode({key: value for key, value in query.items() if value is not None})
        return f"{self._objects}/{quote(name, safe='')}" + (f"?{asked}" if asked else "")

    def _send(
        self, method: str, url: str, data: bytes | None = None, *, most: int = _DESCRIPTION, **headers: str
    ) -> Reply:
        return self._retrying(partial(self._send_once, method, url, data, most=most, **headers))

    def _retrying(self, send: Callable[[], Reply]) -> Reply:
        began = time.monotonic()
        try:
            return send()  # the library's retry would take as much CPU as all of a small request
        except Exception as error:
            return self._again(send, error, time.monotonic() - began)

    def _again(self, send: Callable[[], Reply], error: Exception, spent: float) -> Reply:
        """Go on after a first try, which took `spent` seconds, as the library does: raise its error, or try again."""
        retry = patiently(self._patience)["retry"]
        errors = iter([error])

        def act() -> Reply:
            for first in errors:
                raise first
            return send()

        answer: Reply = retry.with_timeout(max(0.0, retry.timeout - spent))(act)()
        return answer

    def _send_once(
        self, method: str, url: str, data: bytes | None = None, *, most: int = _DESCRIPTION, **headers: str
    ) -> Reply:
        sent = self._headers | {name.replace("_", "-"): value for name, value in headers.items()}
        timeout, most = patiently(self._patience)["timeout"], max(most, _DESCRIPTION)  # the reply may be an error
        answer = self._session.send(Request(method, url, data, sent, timeout, most))
        if not 200 <= answer.status_code < 300:
            raise _failure(method, url, answer)
        return answer


def creating(replacing: Resource | None) -> dict[str, int]:
    """The preconditions of an upload: no object of its name, or this very one."""
    if replacing is None:
        return {"ifGenerationMatch": 0}
    return {
        "ifGenerationMatch": int(replacing["generation"]),
        "ifMetagenerationMatch": int(replacing["metageneration"]),
    }


def crc32c(body: BinaryIO) -> str:
    """The checksum as Cloud Storage gives it: base64 of 4 big-endian bytes. Reads the body from its start."""
    checksum = google_crc32c.Checksum()
    body.seek(0)
    while chunk := body.read(_CHUNK):
        checksum.update(chunk)
    return base64.b64encode(checksum.digest()).decode()


def _parsed(answer: Reply) -> Resource:
    try:
        resource: Resource = orjson.loads(answer.content)
    except orjson.JSONDecodeError as exc:
        raise api.GoogleAPICallError(f"the reply is no JSON: {exc}") from exc
    return resource


def _failure(method: str, url: str, answer: Reply) -> api.GoogleAPICallError:
    """The error that google-cloud-storage raises for such a reply."""
    try:
        said = orjson.loads(answer.content)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        said = answer.content.decode(errors="replace") or "unknown error"
    error: api.GoogleAPICallError = api.from_http_status(answer.status_code, f"{method} {url}: {said}", response=answer)
    return error
