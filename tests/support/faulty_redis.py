"""A chat and workers whose connections to Redis break."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.transcripts import read_transcript
from support.waiting import wait_until
from torpor.history.protocol import (
    Expiry,
    SessionNotFound,
    SessionStore,
)
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import Settings
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.wake.restore import restore_session

NO_RETRY = Retry(NoBackoff(), 0)
SHARDS = range(4)


def services_at(url: str, archive: Path, retry: Retry | None = None, **settings: object) -> Services:
    """A worker's services, with `retry` in place of the worker's own."""
    given = {
        "lease_seconds": 1,
        "concurrency": 1,
        "retry_delay_seconds": 0.1,
        "tombstone_seconds": 1,
        "shards": len(SHARDS),
    } | settings
    services = connect(Settings(redis_url=url, archive_url=archive.as_uri(), **given))  # type: ignore[arg-type]
    if retry:
        client = redis.Redis.from_url(url, socket_timeout=30, retry=retry)
        services = Services(services.settings, SessionStore(client, shards=len(SHARDS)), services.archive)
    return services


@dataclass
class Chat:
    """A session as its user knows it: the acknowledged messages."""

    services: Services
    session_id: str
    acknowledged: list[bytes] = field(default_factory=list)

    def say(self, count: int = 1, by: Services | None = None) -> None:
        """Append one turn, through the services of another client if they are given."""
        said = [b'{"content":"%b"}' % os.urandom(4).hex().encode() for _ in range(count)]
        (by or self.services).sessions.append(self.session_id, said, expiry=Expiry(), owner="ann")
        self.acknowledged += said

    def sleep(self) -> None:
        """Drain until nothing of the session is in Redis; an erasure waits for the leases of its time."""
        self.services.sessions.close(self.session_id)

        def gone() -> bool:
            drain(self.services, SHARDS)
            info = self.services.sessions.info(self.session_id)
            if info and info.floor is None:
                self.services.sessions.close(self.session_id)
            return info is None

        wait_until(gone, 10, f"session {self.session_id!r} leaves Redis")

    def check(self) -> None:
        """Asleep and awake, the transcript has each acknowledged message once, in order."""
        assert transcript(self.services, self.session_id) == self.acknowledged
        self.sleep()
        assert transcript(self.services, self.session_id) == self.acknowledged
        if self.acknowledged:
            restore_session(self.services, self.session_id)
            assert self.services.sessions.messages(self.session_id) == self.acknowledged

    def check_archived_once(self) -> None:
        sizes = [each.name.stop - each.name.start for each in look(self.services.archive, self.session_id).segments]
        assert sum(sizes) == len(self.acknowledged)


def transcript(services: Services, session_id: str) -> list[bytes]:
    try:
        return read_transcript(services, session_id)
    except SessionNotFound:
        return []


# Each command of an operation, lost in turn


def prepare_asleep(chat: Chat) -> None:
    chat.say(9)
    archive_session(chat.services, chat.session_id)


def prepare_woken(chat: Chat) -> None:
    """Three segments of two epochs, and messages that are in no segment."""
    prepare_asleep(chat)
    restore_session(chat.services, chat.session_id)
    chat.say(3)
    archive_session(chat.services, chat.session_id)
    restore_session(chat.services, chat.session_id)
    chat.say(3)


def prepare_spoken_to(chat: Chat) -> None:
    prepare_asleep(chat)
    chat.say(2)


def clear(services: Services, chat: Chat) -> None:
    chat.acknowledged.clear()
    services.sessions.clear(chat.session_id)
