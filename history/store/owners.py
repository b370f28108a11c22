"""The sessions of an owner."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torpor.history import calls
from torpor.history.errors import TorporError
from torpor.history.store.index import Index, answered
from torpor.history.store.progress import END, next_cursor


class Owners(Index):
    """Lists and counts owners' sessions."""

    def count_owned(self, owner: str) -> int:
        """How many sessions an owner has in Redis; one pipeline. Raises InvalidOwner.

        Shards that don't answer are left out, with a warning; raises if none answers.
        """
        deployment = self.deployment
        found = self._ask(partial(calls.count_owned, deployment, owner=owner), range(deployment.keyspace.shards))
        return sum(count for _, count in answered(found))

    def owned(self, owner: str) -> Iterator[str]:
        """Walk the ids of an owner's sessions in Redis, shard by shard; an id may come twice.

        One pipeline for each 16 shards, and one round trip for each further page of a shard. Raises InvalidOwner.
        """
        shards = range(self.deployment.keyspace.shards)
        for first in range(0, len(shards), 16):
            some = shards[first : first + 16]
            steps = self.run_many([calls.owned(self.deployment, shard, owner, END, 100) for shard in some])
            for shard, step in zip(some, steps, strict=True):
                if isinstance(step, TorporError):
                    raise step
                cursor, found = step
                yield from found
                while cursor != END:
                    given, found = self.run(calls.owned(self.deployment, shard, owner, cursor, 100))
                    cursor = next_cursor(cursor, given)
                    yield from found
