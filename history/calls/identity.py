"""Which deployment a Redis belongs to."""

from __future__ import annotations

from torpor.history.calls.call import Call, Deployment
from torpor.history.keys import config_key
from torpor.history.overview import Identity
from torpor.history.scripts import script


def identify(namespace: str, seen: Identity, deployment: str, archive: str | None) -> Call[bool]:
    """Record the deployment's id and the URL of its archive; False if Redis has others by now than were `seen`."""
    return Call(
        script("identify"),
        [config_key(namespace)],
        [each.encode() for each in (seen.deployment or "", seen.archive or "", deployment, archive or "")],
        bool,
    )


def move_fence(namespace: str, newest: str | None, token: str, *, keep: int) -> Call[bool]:
    """Give the fence its next token; False if its newest one is not `newest` any more. The last `keep` tokens stay."""
    return Call(script("move_fence"), [config_key(namespace)], [(newest or "").encode(), token.encode(), keep], bool)


def note_epoch(deployment: Deployment, shard: int, epoch: int) -> Call[None]:
    """Note the highest epoch that the archive has of a shard's sessions: every later epoch is above it."""
    return Call(script("note_epoch"), [deployment.keyspace.shard(shard).tally], [epoch], lambda _: None)
