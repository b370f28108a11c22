"""What finds sessions whose index entry or metadata was lost, and sets them right."""

from __future__ import annotations

from collections.abc import Iterator

from history import calls
from history.session import IndexOutcome, Mending
from history.store.runner import BlockingRunner


class Repair(BlockingRunner):
    """Finds and repairs what no operation would leave behind."""

    def stored_sessions(self) -> Iterator[str]:
        """Walk the ids of all sessions that have keys, indexed or not; an id may come twice.

        The only operation that walks the key space (SCAN): for repairs.
        """
        keyspace = self.deployment.keyspace
        with self._kind.translated():
            for key in self._client.scan_iter(keyspace.pattern, count=1000):
                session = keyspace.session_of(key if isinstance(key, bytes) else key.encode())
                if session is not None:
                    yield session

    def reindex(self, session_id: str) -> IndexOutcome:
        """Add the index entry that a session lacks, or drop the one that lacks a session."""
        return self.run(calls.reindex(self.deployment, session_id))

    def mend(self, session_id: str, mending: Mending) -> bool:
        """Give messages whose metadata was lost new metadata, due now; False where the session has changed."""
        return self.run(calls.mend(self.deployment, session_id, mending))
