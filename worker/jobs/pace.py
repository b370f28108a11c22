"""The pace of a job: how many sessions all of its processes take in a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torpor.worker.deployment.services import Services
from torpor.worker.jobs.job import Job

# A process reserves the places of so much time at once.
_AHEAD_SECONDS = 0.05
# A batch takes about so long, for one process at the whole rate.
_BATCH_SECONDS = 10


def of(services: Services, job: Job) -> Callable[[], None]:
    """A function that returns when the next session may be taken. Safe to share among threads."""
    return (lambda: None) if job.rate is None else _Pace(services, job.id, job.rate).wait


def batch_size(job: Job, most: int) -> int:
    """How many units to put in a batch, so that a slow job can be stopped soon."""
    return most if job.rate is None else max(min(int(job.rate * _BATCH_SECONDS), most), 1)


@dataclass
class _Pace:
    services: Services
    job: str
    rate: float
    _places: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        with self._lock:  # so one thread waits for a place, and the others for the lock
            if self._places == 0:
                self._places = max(int(self.rate * _AHEAD_SECONDS), 1)
                time.sleep(self.services.sessions.reserve(self.job, self.rate, self._places).total_seconds())
            self._places -= 1
