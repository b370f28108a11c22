"""The due index: which sessions are in it, which are due, and who leases them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from torpor.history import calls
from torpor.history.adoption import Adoption
from torpor.history.calls import Call
from torpor.history.errors import MessageCorrupt, TorporError
from torpor.history.ids import DEFAULT_NAMESPACE
from torpor.history.overview import ShardOverview, ShardPoll
from torpor.history.owners import ANY_OWNER
from torpor.history.session import Lease, SessionInfo, Status
from torpor.history.store.announcements import Announcements
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.operation import Operation
from torpor.history.store.progress import END, next_cursor

T = TypeVar("T")

log = logging.getLogger("history.store")

# How many shards one call looks at, and how many sessions it may lease. More would block other clients for
# milliseconds.
_TOGETHER = 32
_CLAIMED_TOGETHER = 1_000
# How many sessions of a shard are looked at for claimed ones, before and after now.
_CLAIMED_LISTED = 2_000
# How many sessions that can't be archived now may be nearer to their due moment than those that can.
_LEFT_ALONE = 200


class Index(BlockingRunner):
    """Counts, lists and leases the sessions of the shards."""

    def __init__(
        self, client: Any, *, namespace: str = DEFAULT_NAMESPACE, shards: int | None = None, resends: bool = True
    ) -> None:
        """Arguments as for BlockingRunner."""
        super().__init__(client, namespace=namespace, shards=shards, resends=resends)
        self._one_slot = self._kind.cluster

    def due_counts(self) -> dict[int, int]:
        """Shard -> number of due sessions, for the shards that have any; one pipeline.

        Shards that don't answer are left out, with a warning; raises if none answers.
        """
        deployment = self.deployment
        counts = self._ask(partial(calls.due, deployment), range(deployment.keyspace.shards))
        return {shard: count for shard, count in answered(counts) if count}

    def poll_shards(self, shards: Sequence[int], election: timedelta) -> list[ShardPoll]:
        """Look at shards for a listener, and elect one of several listeners for each; one pipeline.

        Shards that don't answer are left out, with a warning; raises if none answers.
        """
        answers = self._ask(partial(calls.poll_shards, self.deployment, election=election), shards)
        return [poll for _, poll in answered(answers)]

    def announcements(self) -> Announcements:
        """A subscription to the announcements of first due moments."""
        return Announcements(self._client, self.deployment.keyspace)

    def overview(self) -> list[ShardOverview]:
        """Describe every shard; one pipeline, each shard atomic on its own.

        Shards that don't answer are left out, with a warning; raises if none answers.
        """
        deployment = self.deployment
        shards = range(deployment.keyspace.shards)
        described = self.run_many([calls.overview(deployment, shard) for shard in shards])
        return [overview for _, overview in answered(zip(shards, described, strict=True))]

    def claimed(self) -> list[SessionInfo]:
        """The sessions that are leased or postponed, of each shard up to 2,000 due ones and as many others.

        Two pipelines. Shards that don't answer are left out, with a warning; raises if none answers.
        """
        deployment = self.deployment
        shards = range(deployment.keyspace.shards)
        listed = self.run_many([calls.claimed(deployment, shard, _CLAIMED_LISTED) for shard in shards])
        found = [session for _, sessions in answered(zip(shards, listed, strict=True)) for session in sessions]
        return [info for info in self.infos(found) if isinstance(info, SessionInfo)]

    def now(self) -> datetime:
        """The time by Redis's clock; the latest of all shards."""
        return max(shard.now for shard in self.overview())

    def sessions(self, *, quarantined: bool = False, shards: Iterable[int] | None = None) -> Iterator[str]:
        """Walk the ids of the sessions in Redis, shard by shard, through the index; each id comes once.

        A session that comes or goes during the walk may be missed.
        """
        for shard in range(self.deployment.keyspace.shards) if shards is None else shards:
            seen: set[str] = set()
            cursor = END
            while True:
                step = calls.list_sessions(self.deployment, shard, cursor, 500, quarantined=quarantined)
                given, found = self.run(step)
                cursor = next_cursor(cursor, given)
                new = dict.fromkeys(session for session in found if session not in seen)
                yield from new
                seen.update(new)
                if cursor == END:
                    break

    def infos(self, session_ids: Sequence[str]) -> list[SessionInfo | TorporError | None]:
        """Describe many sessions; one pipeline. Each result is None if the session is not in Redis, or its error."""
        deployment = self.deployment
        return self.run_many([calls.info(deployment, session, owner=ANY_OWNER) for session in session_ids])

    def adoptions(self, damaged: Callable[[str, MessageCorrupt], None] | None = None) -> list[Adoption]:
        """The adoptions that have begun and not ended; one pipeline.

        Calls `damaged` with the session of each one whose record can't be read; without it, that is logged. Shards that
        don't answer are left out, with a warning; raises if none answers.
        """
        deployment = self.deployment
        shards = range(deployment.keyspace.shards)
        found = self.run_many([calls.adoptions(deployment, shard) for shard in shards])
        adoptions: list[Adoption] = []
        for session_id, each in chain.from_iterable(found for _, found in answered(zip(shards, found, strict=True))):
            if isinstance(each, Adoption):
                adoptions.append(each)
            elif damaged:
                damaged(session_id, each)
            else:
                log.warning("%s", each)
        return adoptions

    def claim(self, shards: Sequence[int], limit: int, lease: timedelta) -> list[Lease]:
        """Lease up to `limit` due sessions of each shard, longest due first, and end their elections; one pipeline.

        Works at Redis's memory limit. Shards that don't answer are left out, with a warning; raises if none answers.
        """
        deployment = self.deployment
        claim = partial(calls.claim, deployment, limit=limit, lease=lease)
        end_election = partial(calls.end_election, deployment)
        most = min(_TOGETHER, max(_CLAIMED_TOGETHER // max(limit, 1), 1))
        return [lease for _, leases in answered(self._ask(claim, shards, most, end_election)) for lease in leases]

    def claim_nearest(self, shards: Sequence[int], limit: int, lease: timedelta) -> list[Lease]:
        """Lease the `limit` sessions of all these shards that are nearest to their due moment, due or not.

        A session that is not due is left if it is being restored or erased, or waits after a failure. Three pipelines.
        Shards that don't answer are left out, with a warning; raises if none answers.
        """
        wanted = limit + _LEFT_ALONE
        # More from each shard than its share, because the nearest sessions may all be in one.
        of_each = min(wanted, 4 + 4 * wanted // len(shards))
        deployment = self.deployment
        ahead = self.run_many([calls.nearest(deployment, shard, of_each) for shard in shards])
        found = answered(zip(shards, ahead, strict=True))
        nearest = sorted(each for _, sessions in found for each in sessions)[:wanted]
        infos = self.infos([session for _, session in nearest])
        free = [info.session_id for info in infos if isinstance(info, SessionInfo) and _is_free(info)][:limit]
        claimed = self.run_many([calls.claim_one(deployment, session, lease) for session in free])
        return [each for each in claimed if isinstance(each, Lease)]

    claim_one = Operation(calls.claim_one)

    def _ask(
        self,
        ask: Callable[[Sequence[int]], Call[list[T | TorporError]]],
        shards: Sequence[int],
        most: int = _TOGETHER,
        then: Callable[[Sequence[int]], Call[Any]] | None = None,
    ) -> list[tuple[int, T | TorporError]]:
        """The answers of shards; one pipeline. A call is for up to `most` shards, or one if it must have one slot.

        The calls that `then` makes come after the others, and what they answer does not matter.
        """
        answers: list[tuple[int, T | TorporError]] = []
        for group, outcome in self._ask_groups(ask, shards, most, then):
            answers += zip(group, outcome if isinstance(outcome, list) else [outcome] * len(group), strict=True)
        return answers

    def _ask_groups(
        self,
        ask: Callable[[Sequence[int]], Call[T]],
        shards: Sequence[int],
        most: int = _TOGETHER,
        then: Callable[[Sequence[int]], Call[Any]] | None = None,
    ) -> list[tuple[Sequence[int], T | TorporError]]:
        """The answers of groups of shards; as `_ask`."""
        groups = self._groups(shards, most)
        further = map(then, self._groups(shards, _TOGETHER)) if then else ()
        outcomes = list(zip(groups, self.run_many([*map(ask, groups), *further]), strict=False))
        refused = [shard for group, outcome in outcomes if _is_crossslot(outcome) for shard in group]
        if refused:  # a Cluster of one node, with a client that does not know it
            self._one_slot = True
            outcomes = [each for each in outcomes if not _is_crossslot(each[1])] + self._ask_groups(
                ask, refused, most, then
            )
        return outcomes

    def _groups(self, shards: Sequence[int], most: int) -> list[Sequence[int]]:
        together = 1 if self._one_slot else most
        return [shards[first : first + together] for first in range(0, len(shards), together)]


def _is_crossslot(outcome: object) -> bool:
    """True if a server in cluster mode refused keys of several slots; not every client has its own exception for it.

    Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#implemented-subset
    """
    return isinstance(outcome, TorporError) and "hash to the same slot" in str(outcome)


def answered(outcomes: Iterable[tuple[int, T | TorporError]]) -> list[tuple[int, T]]:
    """The shards that have answered, with their answers; raises the first error if none has."""
    answered: list[tuple[int, T]] = []
    errors: list[TorporError] = []
    for shard, outcome in outcomes:
        if isinstance(outcome, TorporError):
            errors.append(outcome)
        else:
            answered.append((shard, outcome))
    if errors and not answered:
        raise errors[0]
    warn_of(errors, len(errors) + len(answered))
    return answered


def warn_of(errors: Sequence[TorporError], shards: int) -> None:
    """Log how many of some shards did not answer, with the first error, if there is one."""
    if errors:
        log.warning("%d of %d shards did not answer: %s", len(errors), shards, errors[0])


def _is_free(info: SessionInfo) -> bool:
    """True if the session can be archived now: it is due, or nothing else is to be done with it."""
    idle = info.status in (Status.LIVE, Status.POSTPONED) and info.attempts == 0 and info.floor is None
    return info.status is Status.DUE or idle
