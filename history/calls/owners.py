"""An owner's sessions: which they are, and giving a session that has no owner one."""

from __future__ import annotations

from collections.abc import Sequence

from torpor.history.calls.call import Call, Deployment
from torpor.history.calls.index import of_each
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import TorporError
from torpor.history.ids import encode_owner
from torpor.history.outcomes import AssignOutcome
from torpor.history.scripts import script


def owned(deployment: Deployment, shard: int, owner: str, cursor: bytes, count: int) -> Call[tuple[bytes, list[str]]]:
    """Do one step of a walk over an owner's sessions in a shard: the next cursor, b"0" at the end, and session ids."""
    key = deployment.keyspace.shard(shard).owner(encode_owner(owner))
    return Call(
        script("owned"),
        [key],
        [cursor, count],
        lambda reply: (reply[0], [session.decode() for session in reply[1:]]),
    )


def count_owned(deployment: Deployment, shards: Sequence[int], owner: str) -> Call[list[int | TorporError]]:
    """Count an owner's sessions in Redis, in each shard. Errors as with `due`."""
    encoded = encode_owner(owner)
    keys = [deployment.keyspace.shard(shard).owner(encoded) for shard in shards]
    return Call(script("count_owned"), keys, [], of_each(shards, lambda _, count: int(count)))


def assign_owner(deployment: Deployment, session_id: str, owner: str, *, archived: bool = False) -> Call[AssignOutcome]:
    """Give an owner to a session that has none; one that is another owner's stays so.

    `archived`: the archive has the session, which may be asleep. It then gets metadata in Redis, by which a purge of
    the owner finds it, and is due at once: the attempt records the owner in the archive. A legal hold of the owner
    counts from now on. The expiry stays as it is. Raises InvalidOwner.
    """
    keys = session_keys(deployment.keyspace, session_id)
    encoded = encode_owner(owner)
    return Call(
        script("assign_owner"),
        [keys.messages, keys.metadata, keys.due, keys.tally, keys.holds, keys.shard.owner(encoded)],
        [keys.session, encoded, int(archived), *deployment.defaults],
        lambda reply: AssignOutcome(reply.decode()),
    )


def set_aside(deployment: Deployment, session_id: str, *, epoch: int, owner: str | None) -> Call[str | None]:
    """Put a session in Redis aside, because the archive has its id for another owner than this one; returns its new id.

    It is an ordinary session there, and due. None, and nothing is changed, if the session has another epoch or owner.
    """
    keys = session_keys(deployment.keyspace, session_id, owner)
    aside = deployment.keyspace.aside(keys.session, epoch)
    return Call(
        script("set_aside"),
        [
            keys.messages,
            keys.metadata,
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.holds,
            keys.record_index,
            keys.shard.messages(aside),
            keys.shard.metadata(aside),
            *keys.owners,
        ],
        [keys.session, aside, epoch, b"" if owner is None else encode_owner(owner)],
        lambda reply: aside.decode() if reply else None,
        repeatable=False,  # sent again, it would say that the session has changed
    )
