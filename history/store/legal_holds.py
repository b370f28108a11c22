"""Legal holds of owners, and the worker's operations on all legal holds."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Sequence
from typing import TypeVar

from torpor.history import calls
from torpor.history.errors import PermanentError, TorporError
from torpor.history.outcomes import HoldKind, StandingHold
from torpor.history.session import HoldRecord, HoldRecords, LegalHold
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.index import answered
from torpor.history.store.operation import Operation
from torpor.history.store.progress import END, next_cursor

T = TypeVar("T")

log = logging.getLogger("history.store")

_PAGE = 500


class LegalHolds(BlockingRunner):
    """Sets, releases and finds legal holds."""

    def hold_owner(self, owner: str, reason: str | None, by: str = "") -> bool:
        """Put an owner under a legal hold, or release it with None; False if there was none to release.

        One pipeline, each shard atomic on its own; repeatable. A release is noted when all shards have released the
        hold. Call `note_owner_holds` for the owner's sessions afterwards. Raises InvalidOwner and InvalidReason.
        """
        shards = range(self._recorded.keyspace.shards)
        outcomes = self.run_many([calls.hold_owner(self._recorded, shard, owner, reason, by) for shard in shards])
        stood = [since for since in map(_or_raise, outcomes) if since]
        if reason is None and stood:
            self.run(calls.note_owner_release(self._recorded, owner, max(stood)))
        return bool(stood)

    def note_owner_holds(self, session_ids: Sequence[str]) -> None:
        """Have the worker set or release the holds of these sessions' objects, as their owner's; one pipeline.

        Sessions that Redis refuses, because they can't be read, are logged, and the others are noted.
        """
        outcomes = self.run_many([calls.note_owner_hold(self._recorded, session) for session in session_ids])
        for session, outcome in zip(session_ids, outcomes, strict=True):
            if isinstance(outcome, PermanentError):
                log.warning("session %r: no worker sees to the legal hold of its owner: %s", session, outcome)
            else:
                _or_raise(outcome)

    def standing_holds(self) -> Iterator[StandingHold]:
        """Walk the legal holds in force, each once: those of sessions, shard by shard, then those of owners.

        An owner's stands in every shard, and is damaged if it is so in one. Costs time with each hold, and a little for
        an owner's in each shard. Has the holds of owners in memory, and the sessions of a shard.
        """
        owners: dict[str, StandingHold] = {}
        for shard in range(self.deployment.keyspace.shards):
            sessions: set[str] = set()
            for hold in self._standing_in(shard, owners):
                if hold.kind is HoldKind.OWNER:
                    owners[hold.id] = _worse(owners.get(hold.id), hold)
                elif hold.id not in sessions:
                    sessions.add(hold.id)
                    yield hold
        yield from owners.values()

    def hold_of_owner(self, owner: str) -> StandingHold | None:
        """The legal hold of an owner, the damaged copy if it is damaged in one shard; one pipeline.

        Shards that don't answer are left out, with a warning; raises if none answers.
        """
        shards = range(self.deployment.keyspace.shards)
        copies = self.run_many([calls.owner_holds_in(self.deployment, shard, [owner]) for shard in shards])
        found: StandingHold | None = None
        for _, holds in answered(zip(shards, copies, strict=True)):
            for each in holds:
                found = _worse(found, each)
        return found

    def _standing_in(self, shard: int, known: Container[str]) -> Iterator[StandingHold]:
        """The legal holds of a shard, those of owners only of the first shard, or if damaged or not known yet."""
        deployment, cursor = self.deployment, END
        while True:
            step = calls.list_holds(deployment, shard, cursor, _PAGE, owners_alone=shard > 0)
            given, holds, owners = self.run(step)
            cursor = next_cursor(cursor, given)
            yield from holds
            if unknown := [owner for owner in owners if owner not in known]:  # whoever set it there was interrupted
                yield from self.run(calls.owner_holds_in(deployment, shard, unknown))
            if cursor == END:
                return

    def find_holds(self, sessions: Sequence[tuple[str, Sequence[str]]]) -> list[LegalHold | None]:
        """The legal hold of each session, its own or that of one of its owners; one pipeline."""
        found = self.run_many([calls.find_hold(self.deployment, session, owners) for session, owners in sessions])
        return [_or_raise(hold) for hold in found]

    def hold_records(self, sessions: Sequence[tuple[str, Sequence[str]]]) -> list[HoldRecords]:
        """What Redis knows of the legal holds of each session, its own and those of these owners; two pipelines."""
        asked = [(session, owner) for session, owners in sessions for owner in (None, *dict.fromkeys(owners))]
        holds = self.run_many(
            [
                calls.find_hold(self.deployment, session, [])
                if owner is None
                else calls.find_owner_hold(self.deployment, session, [owner])
                for session, owner in asked
            ]
        )
        releases = self.run_many(
            [
                calls.find_release(self.deployment, session)
                if owner is None
                else calls.find_owner_release(self.deployment, owner)
                for session, owner in asked
            ]
        )
        records = map(HoldRecord, map(_or_raise, holds), map(_or_raise, releases))
        return [
            HoldRecords(next(records), {owner: next(records) for owner in dict.fromkeys(owners)})
            for _, owners in sessions
        ]

    def holds_of_each(self, sessions: Sequence[tuple[str, Sequence[str]]]) -> list[list[StandingHold]]:
        """The legal holds that keep each session: its own, and those of these owners; one pipeline."""
        found = self.run_many([calls.holds_of(self.deployment, session, owners) for session, owners in sessions])
        return [_or_raise(holds) for holds in found]

    note_hold_applied = Operation(calls.note_hold_applied)
    holds_of = Operation(calls.holds_of)


def _worse(known: StandingHold | None, other: StandingHold) -> StandingHold:
    """Of two copies of a hold, the first one, unless the other one alone is damaged."""
    return other if known is None or (other.damage and not known.damage) else known


def _or_raise(outcome: T | TorporError) -> T:
    if isinstance(outcome, TorporError):
        raise outcome
    return outcome
