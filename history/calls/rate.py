"""A rate that several processes keep together."""

from __future__ import annotations

from datetime import timedelta

from torpor.history.calls.call import Call, Deployment
from torpor.history.keys import job_rate_key
from torpor.history.scripts import script

_MICROSECOND = timedelta(microseconds=1)
# More than the threads of all processes that do a job.
_MOST_AHEAD = 100_000


def reserve(deployment: Deployment, job: str, rate: float, places: int) -> Call[timedelta]:
    """Reserve the next places of a job, of which there are `rate` in a second; the time until the first of them.

    Whoever is away loses no place and gains none: no places are kept for later.
    """
    key = job_rate_key(deployment.keyspace.namespace, job)
    step_us = max(round(1_000_000 / rate), 1)

    def decode(reply: int) -> timedelta:
        return int(reply) * _MICROSECOND

    # Sent again, it would take other places.
    return Call(script("reserve"), [key], [step_us, places, _MOST_AHEAD], decode, repeatable=False)
