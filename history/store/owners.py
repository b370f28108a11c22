"""The sessions of an owner."""

from __future__ import annotations

from collections.abc import Iterator

from torpor.history import calls
from torpor.history.errors import TorporError
from torpor.history.store.blocking_runner import BlockingRunner


class Owners(BlockingRunner):
    """Lists an owner's sessions."""

    def owned(self, owner: str) -> Iterator[str]:
        """Walk the ids of an owner's sessions in Redis, shard by shard; an id may come twice.

        One pipeline for each 16 shards, and one round trip for each further page of a shard. Raises InvalidOwner.
        """
        shards = range(self.deployment.keyspace.shards)
        for first in range(0, len(shards), 16):
            some = shards[first : first + 16]
            steps = self.run_many([calls.owned(self.deployment, shard, owner, b"0", 100) for shard in some])
            for shard, step in zip(some, steps, strict=True):
                if isinstance(step, TorporError):
                    raise step
                cursor, found = step
                yield from found
                while cursor != b"0":
                    cursor, found = self.run(calls.owned(self.deployment, shard, owner, cursor, 100))
                    yield from found
