"""Legal holds of owners, and what the worker needs of all; an application's own are in `application.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torpor.history import calls
from torpor.history.errors import TorporError
from torpor.history.session import LegalHold
from torpor.history.store.operation import Operation
from torpor.history.store.runner import BlockingRunner

T = TypeVar("T")


class Holding(BlockingRunner):
    """Sets, releases and finds legal holds."""

    def hold_owner(self, owner: str, reason: str | None) -> bool:
        """Put an owner under a legal hold, or release it with None; False where there was none to release.

        One pipeline, each shard atomic for itself; repeatable. Their sessions' objects are seen to by
        `note_owner_holds`. Raises InvalidOwner, InvalidReason.
        """
        shards = range(self._recorded.keyspace.shards)
        done = self.run_many([calls.hold_owner(self._recorded, shard, owner, reason) for shard in shards])
        return any(map(_done, done))

    def note_owner_holds(self, session_ids: Sequence[str]) -> None:
        """Have the worker see to the objects of sessions whose owner's hold was set or released; one pipeline."""
        for outcome in self.run_many([calls.note_owner_hold(self._recorded, session) for session in session_ids]):
            _done(outcome)

    def find_holds(self, sessions: Sequence[tuple[str, Sequence[str]]]) -> list[LegalHold | None]:
        """The legal hold that keeps each session, its own or that of one of the owners beside it; one pipeline."""
        found = self.run_many([calls.find_hold(self.deployment, session, owners) for session, owners in sessions])
        return [_done(hold) for hold in found]

    note_hold_applied = Operation(calls.note_hold_applied)


def _done(outcome: T | TorporError) -> T:
    if isinstance(outcome, TorporError):
        raise outcome
    return outcome
