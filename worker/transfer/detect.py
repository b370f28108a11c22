"""Detect: tells which formats of other libraries lie in a Redis, by the names of keys and by the oldest messages."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice

from torpor.history.protocol import FORMATS, RETURN_PREFIX, NotAdoptable, Storage, is_celerys, looks_like_torpors
from torpor.worker.deployment.services import Services

_BATCH = 500
_Place = tuple[bytes, Storage]


@dataclass(frozen=True, slots=True)
class Detected:
    """The sessions of one format: how many there are, the key of one of them, and the command that adopts them.

    Without a name and a command, these are lists that are no sessions of a known format; or with `candidates`, the
    formats that they may have.
    """

    name: str | None
    sessions: int
    example: str
    command: str | None
    candidates: tuple[str, ...] = ()


def detect(services: Services, pattern: str, progress: Callable[[], None] = lambda: None) -> list[Detected]:
    """Look at the lists whose keys match a glob-style pattern; changes nothing.

    Walks the key space, and reads one small page of each list. Keys of Torpor and of Celery are passed over, and so are
    the copies that Torpor has given back. The order of a list is looked at when it is adopted.
    """
    found: dict[tuple[str, ...], Detected] = {}
    for key, names in _looked_at(services, pattern):
        name, candidates = (names[0], ()) if len(names) == 1 else (None, names)
        first = Detected(name, 0, key.decode(errors="replace"), _command(name, pattern), candidates)
        before = found.get(names, first)
        found[names] = replace(before, sessions=before.sessions + 1)
        progress()
    return sorted(found.values(), key=lambda each: (each.name or "~", each.candidates))


def _looked_at(services: Services, pattern: str) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    places = chain.from_iterable(_places(services, pattern, storage) for storage in Storage)
    seen: set[_Place] = set()
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while batch := list(islice(places, _BATCH)):
            fresh = [each for each in dict.fromkeys(batch) if each not in seen and not _is_known(services, each[0])]
            seen.update(fresh)
            found = pool.map(lambda place: _formats_of(services, *place), fresh)
            yield from zip((key for key, _ in fresh), found, strict=True)


def _places(services: Services, pattern: str, storage: Storage) -> Iterator[_Place]:
    """The keys of the sessions that may lie in a storage: any list, and documents whose names are a format's."""
    alike = [each for each in FORMATS.values() if each.storage is storage]
    for key in services.sessions.stored(pattern, storage):
        named = filter(None, (each.session_key(key) for each in alike))
        yield from ((each, storage) for each in islice(named, 1))


def _is_known(services: Services, key: bytes) -> bool:
    settings = services.settings
    queues = (settings.namespace, settings.on_event_queue)
    return looks_like_torpors(key) or is_celerys(key, queues) or key.startswith(RETURN_PREFIX.encode())


def _formats_of(services: Services, key: bytes, storage: Storage) -> tuple[str, ...]:
    """The format whose keys have such names, and which knows the oldest messages as its own; or all that may be it."""
    claiming = [name for name, each in FORMATS.items() if each.storage is storage and each.claims(key)]
    longest = max((len(FORMATS[name].prefix) for name in claiming), default=0)
    possible = []
    for name in claiming:
        layout = FORMATS[name]
        if len(layout.prefix) < longest:
            continue
        try:
            seems = services.sessions.seems_of(layout.session_id(key), layout)
        except NotAdoptable:
            continue  # it is no session, or too large to be adopted
        if seems:
            return (name,)
        if seems is None:
            possible.append(name)
    return tuple(possible)


def _command(name: str | None, pattern: str) -> str | None:
    if name is None:
        return None
    return f"torpor adopt --match {shlex.quote(FORMATS[name].match(pattern))} --format {name} --dry-run"
