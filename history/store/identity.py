"""Which deployment a Redis belongs to, and what it must know of an archive that it takes over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from torpor.history import calls
from torpor.history.clients.blocking import run_sync
from torpor.history.errors import TorporError
from torpor.history.ids import encode_session_id
from torpor.history.overview import Identity
from torpor.history.store.blocking_runner import BlockingRunner


class Identities(BlockingRunner):
    """Reads and records the identity of the deployment."""

    def identity(self) -> Identity:
        """The identity that Redis has recorded; asks Redis each time, and records nothing."""
        return run_sync(self.identified())

    def redis_time(self) -> datetime:
        """The time by the clock of the Redis that has the deployment's configuration; one call."""
        now = self.identity().read_at
        assert now, "the identity was just read"
        return now

    def identify(self, seen: Identity, deployment: str, archive: str | None) -> bool:
        """Record the deployment's id and the URL of its archive; False if Redis has others by now than were `seen`."""
        return self.run(calls.identify(self._namespace, seen, deployment, archive))

    def move_fence(self, newest: str | None, token: str, *, keep: int) -> bool:
        """Give the fence its next token; False if its newest one is not `newest` any more. The last `keep` stay."""
        return self.run(calls.move_fence(self._namespace, newest, token, keep=keep))

    def shard_of(self, session_id: str) -> int:
        """The shard of a session."""
        return self.deployment.keyspace.shard_of(encode_session_id(session_id))

    def note_epochs(self, highest: Mapping[int, int]) -> None:
        """Have each later epoch of a shard be above the one that is given for the shard; one pipeline."""
        for outcome in self.run_many([calls.note_epoch(self._recorded, *each) for each in highest.items()]):
            if isinstance(outcome, TorporError):
                raise outcome
