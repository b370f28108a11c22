"""Sessions and owners under a legal hold.

The emulator ignores temporary holds, so a proxy remembers and enforces them for a bucket.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from support.storage_proxy import Exchange, Reply
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import (
    Expiry,
)
from torpor.worker.archive import names
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

A, B, C = b'{"a":1}', b'{"b":2}', b'{"c":3}'
SHARDS = list(range(4))


class Killed(BaseException):
    """Ends the process here."""


@dataclass
class Holder:
    """Keeps the temporary holds of objects, and enforces them, because the emulator does not."""

    held: set[tuple[str, str]] = field(default_factory=set)

    def act(self, exchange: Exchange) -> Reply:
        name = unquote(urlsplit(exchange.path).path.partition("/o/")[2])
        if exchange.method == "DELETE" and any(each == name for each, _ in self.held):
            body = json.dumps({"error": {"code": 403, "message": "under active Temporary hold"}}).encode()
            return Reply(403, {"Content-Type": "application/json"}, body)
        reply = exchange.forward()
        if reply.status != 200 or exchange.kind in ("read", "delete"):
            return reply
        answer = json.loads(reply.body)
        if exchange.kind in ("upload", "patch"):
            self._note(exchange, answer)
        for stored in answer.get("items", [answer]):
            if self._key(stored) in self.held:
                stored["temporaryHold"] = True
        return Reply(200, reply.headers, json.dumps(answer).encode())

    def _note(self, exchange: Exchange, stored: dict[str, Any]) -> None:
        body = exchange.body
        sent = json.loads(re.split(rb"\r\n\r\n|\r\n--", body)[1] if exchange.kind == "upload" else body)
        if sent.get("temporaryHold") is True:
            self.held.add(self._key(stored))
        elif sent.get("temporaryHold") is False:
            self.held.discard(self._key(stored))

    @staticmethod
    def _key(stored: dict[str, Any]) -> tuple[str, str]:
        return str(stored.get("name")), str(stored.get("generation"))


def chat(services: Services, session_id: str = "s", owner: str | None = "ann") -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(services.sessions.client, session_id, 3600, owner=owner, shards=4)


def say(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann") -> None:
    services.sessions.append(session_id, list(elements) or [A], expiry=Expiry(idle=timedelta(seconds=60)), owner=owner)


def sleep(services: Services, session_id: str, *elements: bytes, owner: str | None = "ann") -> None:
    say(services, session_id, *elements, owner=owner)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def held(services: Services, session_id: str) -> list[bool]:
    """For each segment of a session, whether it is held."""
    return [segment.stored.held for segment in look(services.archive, session_id).segments]


def objects(services: Services, session_id: str) -> list[str]:
    """The names of a session's objects without floor markers."""
    prefix = names.session_prefix(session_id)
    return [each.name for each in services.archive.list(prefix, generations=True) if not each.name.endswith("/floor")]


def settle(services: Services) -> None:
    """Drain, as a worker does, until nothing is due."""
    wait_until(lambda: not drain(services, SHARDS))


def in_redis(services: Services) -> int:
    return sum(shard.live for shard in services.sessions.overview())
