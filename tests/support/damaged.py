"""Records in Redis that can't be read, such as those of the legal holds of the session s and its owner ann."""

from __future__ import annotations

from html import unescape

import pytest

from support.held import chat
from support.keyspace import raw
from torpor.history.protocol import HoldKind
from torpor.worker.deployment.services import Services


def of_redis(services: Services, key: bytes, field: str, value: str) -> None:
    """Overwrite a field of a hash that is there."""
    assert raw(services.sessions.client, "HSET", key, field, value) == 0, "the record was there"


def break_hold(services: Services, kind: HoldKind, name: str, value: str = "yesterday:case 8") -> None:
    """Damage the record of the legal hold of a session or an owner; that of an owner stands in each shard."""
    keyspace = services.sessions.deployment.keyspace
    if kind is HoldKind.SESSION:
        of_redis(services, keyspace.of(name.encode()).holds, f"s{name}", value)
        return
    for shard in range(keyspace.shards):
        of_redis(services, keyspace.shard(shard).holds, f"o{name}", value)


NAMES = {HoldKind.SESSION: "s", HoldKind.OWNER: "ann"}
# Which holds there are; the records of all are damaged.
Holds = tuple[HoldKind, ...]
of_holds = pytest.mark.parametrize(
    "holds", [(HoldKind.SESSION,), (HoldKind.OWNER,), (HoldKind.SESSION, HoldKind.OWNER)], ids="+".join
)


def damage(services: Services, holds: Holds, value: str = "yesterday:case 8") -> None:
    """Put the session and its owner under these holds, and damage their records."""
    for kind in holds:
        if kind is HoldKind.SESSION:
            chat(services).hold("case 8")
        else:
            services.sessions.hold_owner(NAMES[kind], "case 8")
            services.sessions.note_owner_holds(["s"])
        break_hold(services, kind, NAMES[kind], value)


def of(kind: HoldKind) -> str:
    """How a damaged hold is told."""
    return f"the record of the legal hold of {kind} {NAMES[kind]!r} is damaged; the hold stands: set it anew"


def names_all(text: str, holds: Holds) -> bool:
    return all((of(kind) in " ".join(unescape(text).split())) == (kind in holds) for kind in HoldKind)
