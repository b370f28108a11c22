"""Runs cases: two faults, two workers and a user, and then a last worker on a healthy way."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from pairs.attempt import Attempt, Fault, Strike, at_failpoint
from pairs.matrix import Case, Way, cases
from pairs.sessions import Path, Subject, Work, sleep
from support.keyspace import raw
from support.observed import ObservedStore
from torpor.history.protocol import TorporError
from torpor.worker import failpoints
from torpor.worker.deployment.services import Services

# Notes figures, which are printed in the end: see the summary in tests/conftest.py.
Record = Callable[[str, object], None]


def check(
    way: Way, services: Services, path: Path, firsts: Sequence[Fault], record: Record, *, share: float = 1
) -> None:
    """Run a share of the cases that begin with these faults, and raise AssertionError with all that went wrong."""
    failpoints.arm(at_failpoint)
    steps = _steps(way, services, path)
    count = met_both = 0
    wrong: list[str] = []
    for case in chain.from_iterable(cases(way, path, steps, first, share) for first in firsts):
        count += 1
        trial = Trial(way, case, Subject(services, f"{path} {count}"))
        try:
            trial.run()
        except Exception as error:  # the other cases go on
            where = traceback.extract_tb(error.__traceback__)[-1]
            wrong.append(f"{case}\n    {trial}\n    {where.line}: {error!r}")
        met_both += len(trial.met) == 2
    record("fault_pairs", (count, met_both))
    _end_stagings(services)
    assert not wrong, f"{len(wrong)} of {count} cases:\n" + "\n".join(wrong)


def _steps(way: Way, services: Services, path: Path) -> list[str]:
    """The steps of a path's work if nothing fails."""
    subject = Subject(services, f"{path}: rehearsal")
    path.begin(subject)
    attempt = _begin(way, subject, path.work)
    attempt.end()
    assert attempt.error is None, attempt.error
    return attempt.steps


def _end_stagings(services: Services) -> None:
    """Delete what restores that were killed have staged, which would expire by itself."""
    for key in raw(services.sessions.client, "KEYS", "*:r:*"):
        assert raw(services.sessions.client, "PTTL", key) > 0
        raw(services.sessions.client, "DEL", key)


def _begin(way: Way, subject: Subject, work: Work, strikes: Sequence[Strike] = ()) -> Attempt:
    """Begin work at a session in a thread of its own, with a way of its own to the archive."""
    attempt = Attempt(list(strikes))
    sessions = ObservedStore(subject.services.sessions.client, attempt)
    services = replace(subject.services, sessions=sessions, archive=way.store(attempt))
    attempt.begin(lambda: work(subject, services))
    return attempt


@dataclass
class Trial:
    """A run of a case."""

    way: Way
    case: Case
    subject: Subject
    attempts: list[Attempt] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n    ".join(
            f"met {', '.join(each.met) or 'nothing'}: {each.error or each.result}" for each in self.attempts
        )

    @property
    def met(self) -> list[str]:
        """Where the faults were met."""
        return [met for attempt in self.attempts for met in attempt.met]

    def run(self) -> None:
        """Run the case; raises AssertionError if anything is wrong in the end."""
        self.case.path.begin(self.subject)
        self._meet_faults()
        self.subject.check_readable()
        self.subject.settle()
        self.subject.check_asleep()
        self.subject.check_awake()

    def _meet_faults(self) -> None:
        first, second, strikes_b = self.case.first, self.case.second, self.case.strikes_b
        a = self._begin(self.case.path.work, [first] if strikes_b else [first, second])
        user = self._begin(self._use)
        if not user.done:  # it waits for A's lock
            a.let_go()
        user.end()
        b = self._begin(self.case.between.work, [second] if strikes_b else a.strikes if a.done else [])
        a.let_go()
        b.let_go()
        a.end()
        b.end()
        if left := [Strike(each.fault, 0) for attempt in (a, b) for each in attempt.strikes]:
            self._begin(sleep, left).end()
        assert user.error is None, f"the user met {user.error!r}"
        for each in self.attempts:
            assert each.error is None or isinstance(each.error, TorporError), f"a worker met {each.error!r}"

    def _begin(self, work: Work, strikes: Sequence[Strike] = ()) -> Attempt:
        attempt = _begin(self.way, self.subject, work, strikes)
        self.attempts.append(attempt)
        return attempt

    def _use(self, subject: Subject, _: Services) -> None:
        subject.end_lease()
        self.case.between.act(subject)
