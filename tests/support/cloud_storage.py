"""What Cloud Storage does with a request for an object, and the emulator does not.

The emulator ignores the generation of a deletion or an amendment, metagenerations, temporary holds and checksums that
do not fit. It accepts an earlier custom time, gives an entry of the metadata that is to be removed an empty value, and
answers an amendment with a part of the description. `CloudStorage` stands before it and does all of that.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c

_OBJECTS = re.compile(r"/(upload/)?storage/v1/b/(?P<bucket>[^/]+)/o\b")


@dataclass(frozen=True)
class Reply:
    """An answer, from the store or in its place."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def resource(self) -> dict[str, Any]:
        """The body as JSON."""
        resource: dict[str, Any] = json.loads(self.body)
        return resource


Send = Callable[[str, str, bytes], Reply]


@dataclass
class _Kept:
    """What the emulator does not keep of an object's description; None for metadata that it does keep."""

    metageneration: int = 1
    held: bool = False
    metadata: dict[str, str] | None = None


class CloudStorage:
    """Answers requests over `send`, which sends a method, a path and a body to the emulator."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._kept: dict[tuple[str, str, str], _Kept] = {}
        self._announced: dict[str, tuple[str, dict[str, Any]]] = {}

    def answer(self, kind: str, path: str, body: bytes, forward: Callable[[bytes], Reply]) -> Reply:
        """The answer to a request of a kind (see Exchange.kind). `forward` sends it on with its own headers."""
        changing = {
            "upload": self._upload,
            "initiate": self._initiate,
            "chunk": self._chunk,
            "patch": self._patch,
            "delete": self._delete,
        }
        if kind == "chunk" or (kind in changing and _OBJECTS.match(path)):
            with self._lock:
                return changing[kind](path, body, forward)
        reply = forward(body)
        if kind not in ("describe", "list") or reply.status != HTTPStatus.OK:
            return reply
        return self._unexpected(path, reply) or self._completed(reply)

    def _upload(self, path: str, body: bytes, forward: Callable[[bytes], Reply]) -> Reply:
        try:
            sent, content = sent_object(body)
        except ValueError as error:
            return _error(HTTPStatus.BAD_REQUEST, f"it is no multipart upload: {error}")
        if not _fits(sent, _crc32c(content)):
            return _error(HTTPStatus.BAD_REQUEST, "the CRC32C does not match")
        return self._unexpected(path, self._there(path, sent)) or self._stored(forward(body), sent)

    def _initiate(self, path: str, body: bytes, forward: Callable[[bytes], Reply]) -> Reply:
        sent = json.loads(body)
        if refusal := self._unexpected(path, self._there(path, sent)):
            return refusal
        reply = forward(body)
        if "Location" in reply.headers:
            self._announced[_upload_of(reply.headers["Location"])] = path, sent
        return reply

    def _chunk(self, path: str, body: bytes, forward: Callable[[bytes], Reply]) -> Reply:
        asked, sent = self._announced[_upload_of(path)]
        if refusal := self._unexpected(asked, self._there(asked, sent)):
            return refusal
        reply = forward(body)
        if reply.status != HTTPStatus.OK:
            return reply
        if not _fits(sent, reply.resource["crc32c"]):
            self._send("DELETE", _path(reply.resource), b"")
            return _error(HTTPStatus.BAD_REQUEST, "the CRC32C does not match")
        return self._stored(reply, sent)

    def _patch(self, path: str, body: bytes, forward: Callable[[bytes], Reply]) -> Reply:
        found = self._send("GET", urlsplit(path).path, b"")
        if refusal := self._unexpected(path, found):
            return refusal
        there, changes = self._complete(found.resource), json.loads(body)
        if there.get("customTime") and _moment(changes.get("customTime", there["customTime"])) < _moment(
            there["customTime"]
        ):
            return _error(HTTPStatus.BAD_REQUEST, "a custom time can't be set to an earlier one")
        reply = forward(body)
        if reply.status != HTTPStatus.OK:
            return reply
        kept = self._of(there)
        kept.metageneration += 1
        kept.held = changes.get("temporaryHold", kept.held)
        if "metadata" in changes:
            merged = there.get("metadata", {}) | changes["metadata"]
            kept.metadata = {name: value for name, value in merged.items() if value is not None}
        return self._completed(self._send("GET", urlsplit(path).path, b""))

    def _delete(self, path: str, body: bytes, forward: Callable[[bytes], Reply]) -> Reply:
        found = self._send("GET", urlsplit(path).path, b"")
        if refusal := self._unexpected(path, found):
            return refusal
        if self._complete(found.resource).get("temporaryHold"):
            return _error(HTTPStatus.FORBIDDEN, "under active Temporary hold")
        return forward(body)

    def _there(self, path: str, sent: Mapping[str, Any]) -> Reply:
        """The emulator's description of the object that an upload would replace."""
        bucket = _OBJECTS.match(path)["bucket"]  # type: ignore[index] # `answer` has matched it
        return self._send("GET", _path({"bucket": unquote(bucket), "name": sent["name"]}), b"")

    def _unexpected(self, path: str, found: Reply) -> Reply | None:
        """The refusal of a request because of its preconditions or its generation; None if it may go on."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if found.status != HTTPStatus.OK:
            creates = asked.get("ifGenerationMatch", "0") == "0"
            if "uploadType" in asked:
                return None if creates else _error(HTTPStatus.PRECONDITION_FAILED, "there is no such object")
            return _error(HTTPStatus.NOT_FOUND, "there is no such object")
        if "generation" not in found.resource:
            return None  # it is not of one object
        there = self._complete(found.resource)
        if asked.get("generation", there["generation"]) != there["generation"]:
            return _error(HTTPStatus.NOT_FOUND, "there is no such generation")
        for name in ("generation", "metageneration"):
            if asked.get(f"if{name.capitalize()}Match", there[name]) != there[name]:
                return _error(HTTPStatus.PRECONDITION_FAILED, f"the object has another {name}")
        return None

    def _stored(self, reply: Reply, sent: Mapping[str, Any]) -> Reply:
        if reply.status == HTTPStatus.OK:
            self._of(reply.resource).held = bool(sent.get("temporaryHold"))
        return self._completed(reply)

    def _completed(self, reply: Reply) -> Reply:
        """The reply with complete descriptions."""
        if reply.status != HTTPStatus.OK:
            return reply
        told = reply.resource
        if "items" in told:
            told["items"] = [self._complete(each) for each in told["items"]]
        elif "generation" in told:
            told = self._complete(told)
        return Reply(reply.status, reply.headers, json.dumps(told).encode())

    def _complete(self, resource: dict[str, Any]) -> dict[str, Any]:
        kept = self._of(resource)
        told = resource | {"metageneration": str(kept.metageneration)}
        if kept.held:
            told["temporaryHold"] = True
        if kept.metadata is not None:
            told["metadata"] = kept.metadata
        return told

    def _of(self, resource: Mapping[str, Any]) -> _Kept:
        return self._kept.setdefault((resource["bucket"], resource["name"], str(resource["generation"])), _Kept())


def sent_object(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The description and the content of a multipart upload."""
    boundary = body[: body.index(b"\r\n")]
    _, described, content, _ = body.split(boundary)
    resource: dict[str, Any] = json.loads(described.split(b"\r\n\r\n", 1)[1])
    return resource, content.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")


def _fits(sent: Mapping[str, Any], crc32c: str) -> bool:
    return bool(sent.get("crc32c", crc32c) == crc32c)


def _crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()  # type: ignore[no-untyped-call]


def _upload_of(url: str) -> str:
    """What tells one resumable upload from another."""
    return urlsplit(url).path + parse_qs(urlsplit(url).query).get("upload_id", [""])[0]


def _path(resource: Mapping[str, Any]) -> str:
    return f"/storage/v1/b/{resource['bucket']}/o/{quote(resource['name'], safe='')}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _error(status: HTTPStatus, message: str) -> Reply:
    body = json.dumps({"error": {"code": int(status), "message": message}}).encode()
    return Reply(int(status), {"Content-Type": "application/json"}, body)
