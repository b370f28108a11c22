"""Legal holds of owners, and the worker's operations on all legal holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torpor.history import calls
from torpor.history.errors import TorporError
from torpor.history.outcomes import HoldKind
from torpor.history.session import LegalHold
from torpor.history.store.operation import Operation
from torpor.history.store.runner import BlockingRunner

T = TypeVar("T")


# Whether a session is under a hold of its own, and of its owner.
_KINDS = {
    (False, False): None,
    (True, False): HoldKind.SESSION,
    (False, True): HoldKind.OWNER,
    (True, True): HoldKind.BOTH,
}


class LegalHolds(BlockingRunner):
    """Sets, releases and finds legal holds."""

    def hold_owner(self, owner: str, reason: str | None) -> bool:
        """Put an owner under a legal hold, or release it with None; False if there was none to release.

        One pipeline, each shard atomic on its own; repeatable. Call `note_owner_holds` for the owner's sessions
        afterwards. Raises InvalidOwner and InvalidReason.
        """
        shards = range(self._recorded.keyspace.shards)
        outcomes = self.run_many([calls.hold_owner(self._recorded, shard, owner, reason) for shard in shards])
        return any(map(_or_raise, outcomes))

    def note_owner_holds(self, session_ids: Sequence[str]) -> None:
        """Have the worker set or release the holds of these sessions' objects, as their owner's; one pipeline."""
        for outcome in self.run_many([calls.note_owner_hold(self._recorded, session) for session in session_ids]):
            _or_raise(outcome)

    def find_holds(self, sessions: Sequence[tuple[str, Sequence[str]]]) -> list[LegalHold | None]:
        """The legal hold of each session, its own or that of one of its owners; one pipeline."""
        found = self.run_many([calls.find_hold(self.deployment, session, owners) for session, owners in sessions])
        return [_or_raise(hold) for hold in found]

    def hold_kinds(self, sessions: Sequence[tuple[str, Sequence[str]]]) -> list[HoldKind | None]:
        """Whose legal hold keeps each session, its own or that of one of its owners; one pipeline."""
        own = [calls.find_hold(self.deployment, session, []) for session, _ in sessions]
        owners = [calls.find_owner_hold(self.deployment, session, owners) for session, owners in sessions]
        found = [_or_raise(hold) is not None for hold in self.run_many([*own, *owners])]
        return [_KINDS[each] for each in zip(found[: len(own)], found[len(own) :], strict=True)]

    note_hold_applied = Operation(calls.note_hold_applied)


def _or_raise(outcome: T | TorporError) -> T:
    if isinstance(outcome, TorporError):
        raise outcome
    return outcome
