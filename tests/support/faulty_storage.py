"""Sessions whose archive is a failing bucket, and the ways in which it fails."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from langchain_core.messages import HumanMessage

from support.storage_proxy import (
    Fault,
    StorageProxy,
    answered,
    answered_after,
    reset_after,
    reset_before,
    stalled_after,
    stalled_before,
)
from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory
from torpor.worker.archive import contents
from torpor.worker.archive.stores import ArchiveStore, StoredObject
from torpor.worker.deployment.services import Services

MIB = 1024 * 1024
NAME = "v1/ab/s/7/0-1-0123abcd.jsonl.gz"
LATER = datetime(2030, 1, 1, tzinfo=UTC)
STATUSES = (408, 429, 500, 502, 503, 504)
PASSING: dict[str, Fault] = {
    **{f"{status}": answered(status) for status in STATUSES},
    "503, but it was done": answered_after(503),
    "reset before it arrived": reset_before,
    "reset before the reply": reset_after,
    "stalled before it arrived": stalled_before,
    "stalled before the reply": stalled_after,
}


def put(archive: ArchiveStore, data: bytes, name: str = NAME) -> StoredObject:
    return archive.put(name, io.BytesIO(data), len(data), metadata={"session": "s"})


def content(archive: ArchiveStore, stored: StoredObject) -> bytes:
    """An object, read in pieces as the worker does: a request without an end is refused above 1 MiB."""
    with archive.open(stored) as body:
        return b"".join(iter(partial(body.read, 64 * 1024), b""))


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def say(services: Services, session_id: str, *texts: str, **options: str) -> list[bytes]:
    """Add messages; returns all acknowledged messages of the session that Redis has."""
    chat = MemorystoreChatMessageHistory(services.sessions.client, session_id, **options)  # type: ignore[arg-type]
    chat.add_messages([HumanMessage(text) for text in texts])
    return services.sessions.messages(session_id, touch=False)


def long_text(size: int) -> str:
    """A text that gzip makes no shorter than three quarters of `size`."""
    return base64.b64encode(random_bytes(size * 3 // 4)).decode()


def check_archived(services: Services, session_id: str, acknowledged: list[bytes], segments: int = 1) -> None:
    """The session is gone from Redis, each segment is one object, and a restore brings back all messages."""
    assert services.sessions.info(session_id) is None
    assert len(contents.look(services.archive, session_id).segments) == segments
    assert read_transcript(services, session_id) == acknowledged


def requests_of(proxy: StorageProxy, work: Callable[[], object]) -> int:
    """How many requests a piece of work takes if none fails."""
    proxy.heal()
    work()
    return len(proxy.seen)
