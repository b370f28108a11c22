"""A Redis and an archive in each state in which their identities can be, and what must come of each pair."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.keyspace import dump
from support.objects import put
from torpor.history.protocol import SessionStore
from torpor.worker.archive import names, ownership
from torpor.worker.archive.ownership import ArchiveIdentity
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import parse_archive_url
from torpor.worker.deployment.identity import State
from torpor.worker.deployment.services import Services

OURS, OTHERS = "0a1b" * 8, "c0de" * 8
ELSEWHERE = "gs://the-old-bucket/chats"


def recorded(deployment: str, archive: str | None) -> Callable[[Services], None]:
    def record(services: Services) -> None:
        url = services.archive.url if archive == "here" else archive
        assert services.sessions.identify(services.sessions.identity(), deployment, url)

    return record


def configured(services: Services) -> None:
    """As a worker of an older version leaves it."""
    services.sessions.configure(idle=timedelta(hours=1), max_age=None)


def identified(deployment: str, namespace: str = "torpor") -> Callable[[Services], None]:
    return lambda services: ownership.write(
        services.archive, ArchiveIdentity(services.archive.url), namespace, deployment
    )


def with_tokens(services: Services) -> None:
    """As a worker leaves it that has moved the fence."""
    recorded(OURS, "here")(services)
    assert services.sessions.move_fence(None, "0b", keep=16)
    assert services.sessions.move_fence("0b", "0c", keep=16)


def fenced(token: str) -> Callable[[Services], None]:
    """Ours, with a token of the fence."""

    def give(services: Services) -> None:
        identified(OURS)(services)
        there = ownership.read(services.archive)
        assert ownership.move_fence(services.archive, there, token, datetime(2026, 1, 1, tzinfo=UTC))

    return give


def missing(services: Services) -> None:
    place = parse_archive_url(services.archive.url)
    if isinstance(place, Path):
        shutil.rmtree(place, ignore_errors=True)


def used(services: Services) -> None:
    put(services.archive, names.floor_name("s", 7), b"", {"session": "s"})


def of_an_older_version(services: Services) -> None:
    ownership.take(services.archive, "torpor")
    used(services)


def nothing(services: Services) -> None:
    """Leave it as it is: a folder that is there and empty, or an empty bucket."""
    missing(services)
    place = parse_archive_url(services.archive.url)
    if isinstance(place, Path):
        place.mkdir()


REDIS: dict[str, Callable[[Services], None]] = {
    "empty": lambda _: None,
    "of an older version": configured,
    "named, first use interrupted": recorded(OURS, None),
    "ours": recorded(OURS, "here"),
    "ours, with tokens": with_tokens,
    "ours, archive elsewhere": recorded(OURS, ELSEWHERE),
    "another's": recorded(OTHERS, "here"),
    "another's, archive elsewhere": recorded(OTHERS, ELSEWHERE),
}
ARCHIVES: dict[str, Callable[[Services], None]] = {
    "missing": missing,
    "empty": nothing,
    "of an older version": of_an_older_version,
    "used by nobody knows whom": used,
    "ours": identified(OURS),
    "ours, with one of the tokens": fenced("0b"),
    "ours, with another Redis's token": fenced("0d"),
    "of a third": identified("beef" * 8),
    "of another namespace": identified(OURS, namespace="other"),
}
# Every other pair disagrees.
BELONG = {
    ("empty", "missing"): State.NEW,
    ("empty", "empty"): State.NEW,
    ("of an older version", "of an older version"): State.NEW,
    ("named, first use interrupted", "missing"): State.NEW,
    ("named, first use interrupted", "empty"): State.NEW,
    ("named, first use interrupted", "ours"): State.NEW,
    ("ours", "ours"): State.AGREE,
    ("ours, with tokens", "ours"): State.AGREE,
    ("ours, with tokens", "ours, with one of the tokens"): State.AGREE,
}
PAIRS = [(redis, archive) for redis in REDIS for archive in ARCHIVES]


@dataclass(frozen=True)
class Sides:
    """A pair of sides, as they were set up."""

    services: Services
    redis: str
    archive: str

    @property
    def expected(self) -> State:
        return BELONG.get((self.redis, self.archive), State.DISAGREE)

    @property
    def is_missing(self) -> bool:
        """A folder that does not exist; a bucket's prefix always does."""
        return self.archive == "missing" and self.services.archive.url.startswith("file:")

    @property
    def knows_another_archive(self) -> bool:
        return self.redis.endswith("elsewhere")


def set_up(services: Services, redis: str, archive: str) -> Sides:
    ARCHIVES[archive](services)
    REDIS[redis](services)
    return Sides(services, redis, archive)


def contents_of(sessions: SessionStore, archive: ArchiveStore) -> tuple[Any, Any, bool]:
    """Everything on both sides but events and the archive's health: a worker notes that a folder is missing.

    Equal before and after means that nothing was changed.
    """
    place = parse_archive_url(archive.url)
    is_there = not isinstance(place, Path) or place.exists()
    client: Any = sessions.client
    kept = {key: value for key, value in dump(client).items() if b"torpor:events" not in key}
    return kept, [(each.name, each.generation) for each in archive.list("")], is_there


def without_trail(contents: tuple[Any, Any, bool]) -> tuple[Any, Any, bool]:
    """What is on both sides, without the audit trail."""
    kept, objects, is_there = contents
    return kept, [each for each in objects if not each[0].startswith(names.AUDIT)], is_there
