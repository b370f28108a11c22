"""Put objects in an archive store and look at them."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.cloud import storage

from support.storage_proxy import Exchange, Fault, Reply, StorageProxy, answered
from torpor.worker.archive.stores import ArchiveStore, Confirm, StoredObject
from torpor.worker.errors import ArchiveUnavailable

MIB = 1024 * 1024
NAME = "v1/ab/s/7/0-1-0123abcd.jsonl.gz"
DESCRIBED = {"session": "Wie geht's? 😀", "epoch": "7"}
MOMENT = datetime(2030, 1, 2, 3, 4, 5, 678000, UTC)


def put(
    archive: ArchiveStore,
    name: str,
    content: bytes,
    metadata: dict[str, str] | None = None,
    at: datetime | None = None,
    *,
    held: bool = False,
    confirm: Confirm | None = None,
) -> StoredObject:
    body = io.BytesIO(content)
    return archive.put(name, body, len(content), metadata=metadata or {}, custom_time=at, held=held, confirm=confirm)


def content(archive: ArchiveStore, stored: StoredObject) -> bytes:
    with archive.open(stored) as body:
        return body.read()


def object_names(archive: ArchiveStore, prefix: str = "v1/") -> list[str]:
    return [stored.name for stored in archive.list(prefix)]


def folder_of(archive: ArchiveStore) -> Path:
    return Path(urlsplit(archive.url).path)


def custom_time(archive: ArchiveStore, name: str) -> datetime | None:
    """An object's custom time, read by another program than Torpor."""
    if archive.url.startswith("gs://"):
        bucket, _, prefix = archive.url.removeprefix("gs://").partition("/")
        blob = storage.Client().bucket(bucket).get_blob(f"{prefix}/{name}")
        moment: datetime | None = blob.custom_time
        return moment
    described = json.loads(next(folder_of(archive).glob(f"{name}*.meta.json")).read_text())
    return described["custom_time"] and datetime.fromisoformat(described["custom_time"])


def uses(archive: ArchiveStore) -> list[str]:
    """The error of each operation if the store can't be used."""
    said = []
    for operation in (
        archive.check,
        lambda: put(archive, NAME, b"hello"),
        lambda: put(archive, NAME, b"x" * 9 * MIB),
        lambda: object_names(archive),
        lambda: object_names(archive, "v1/ab/s/"),
    ):
        with pytest.raises(ArchiveUnavailable) as caught:
            operation()
        said.append(str(caught.value))
    return said


# Custom times, holds and generations


LATER = MOMENT + timedelta(days=1)
EARLIER = MOMENT - timedelta(days=1)


def forged(**fields: Any) -> Fault:
    """A description by the store, of an object or the bucket, with other properties added."""

    def act(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if exchange.kind != "describe" or reply.status != 200:
            return reply
        return Reply(200, reply.headers, json.dumps(json.loads(reply.body) | fields).encode())

    return act


def refused(reason: str, **fields: Any) -> Fault:
    """Cloud Storage's reply to a deletion that is forbidden."""
    body = json.dumps({"error": {"code": 403, "message": reason}}).encode()
    described = forged(**fields)

    def act(exchange: Exchange) -> Reply:
        if exchange.method == "DELETE":
            return Reply(403, {"Content-Type": "application/json"}, body)
        return described(exchange)

    return act


def described(exchange: Exchange) -> dict[str, Any]:
    """The resource that a request sends."""
    body = exchange.body
    if exchange.kind == "upload":
        body = re.split(rb"\r\n\r\n|\r\n--", body)[1]
    resource: dict[str, Any] = json.loads(body)
    return resource


def patches(proxy: StorageProxy) -> list[dict[str, Any]]:
    return [described(exchange) for exchange in proxy.seen if exchange.method == "PATCH"]


def query(exchange: Exchange) -> dict[str, list[str]]:
    return parse_qs(urlsplit(exchange.path).query)


def conflicting(times: int) -> Fault:
    """Change the object, like another program, before each of `times` requests that would change it."""
    left = iter(range(times))

    def act(exchange: Exchange) -> Reply:
        if exchange.method == "PATCH" and (number := next(left, None)) is not None:
            assert exchange.forward(json.dumps({"metadata": {"changed": str(number)}}).encode()).status == 200
            return answered(412)(exchange)
        return exchange.forward()

    return act
