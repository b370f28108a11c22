"""What can be watched of a deployment: figures of its shards, measures of its processes, who was seen when, samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial, reduce
from operator import add

from torpor.history import calls
from torpor.history.clients.blocking import run_sync
from torpor.history.errors import RedisRefused, TorporError
from torpor.history.overview import Sample, ShardFigures
from torpor.history.store.index import Index, answered, warn_of
from torpor.history.store.operation import Operation

# At how many sessions one look at all shards looks for those in work and postponed, about.
_AHEAD = 512
# A page of samples; a larger one would block Redis for milliseconds.
_SAMPLES = 1_000


class Figures(Index):
    """Reads the figures of a deployment, at a cost that does not grow with its sessions."""

    def figures(self) -> ShardFigures:
        """Those of all shards; one pipeline.

        Shards that don't answer are left out, with a warning; raises if none answers.
        """
        deployment = self.deployment
        shards = range(deployment.keyspace.shards)
        ask = partial(calls.figures, deployment, ahead=max(_AHEAD // len(shards), 1))
        figures: list[ShardFigures] = []
        errors: list[TorporError] = []
        for group, outcome in self._ask_groups(ask, shards):
            if isinstance(outcome, TorporError):
                errors += [outcome] * len(group)
            else:
                figures.append(outcome[0])
                errors += outcome[1]
        if not figures:
            raise errors[0]
        warn_of(errors, len(shards))
        return reduce(add, figures)

    def kinds_counted(self) -> bool:
        """True if `chats` and `threads` of the figures count all sessions. Once they do, Redis is not asked again."""
        return self.deployment.kinds_counted or run_sync(self.deployed(afresh=True)).kinds_counted

    def waiting_since(self, session_ids: Sequence[str]) -> list[datetime]:
        """Since when sessions have been waiting to fall asleep, for those of which that is noted; one pipeline."""
        deployment = self.deployment
        found = self.run_many([calls.waiting_since(deployment, session) for session in session_ids])
        return [since for since in found if isinstance(since, datetime)]

    def holds(self) -> tuple[int, int]:
        """How many sessions and how many owners are under a legal hold; one pipeline. Costs time with each hold."""
        deployment = self.deployment
        found = self._ask(partial(calls.count_holds, deployment), range(deployment.keyspace.shards))
        counts = [each for _, each in answered(found)]
        return sum(sessions for sessions, _ in counts), max(owners for _, owners in counts)

    def samples(self, span: timedelta) -> Iterator[Sample]:
        """The samples of the last span, oldest first; a page of them is one call."""
        after = ""
        while True:
            page = self.run(calls.samples(self.deployment, span, after, _SAMPLES))
            yield from page
            if len(page) < _SAMPLES:
                return
            if after == page[-1].id:
                raise RedisRefused(f"the samples can't be read: Redis gives those up to {after} again")
            after = page[-1].id

    add_sample = Operation(calls.add_sample)
    kinds = Operation(calls.kinds)
    set_kinds = Operation(calls.set_kinds)
    note_kinds_counted = Operation(calls.note_kinds_counted)
    measures = Operation(calls.measures)
    note_seen = Operation(calls.note_seen)
