"""The worker's Celery app whose main thread is stuck after SIGUSR2. `celery -A support.stuck_worker worker`."""

from __future__ import annotations

import signal
import time
from typing import Any

from celery.signals import worker_ready

from torpor.worker.app import app
from torpor.worker.monitoring import health

__all__ = ["app"]

health._STUCK_SECONDS = 5.0


def _hang(*_: Any) -> None:
    time.sleep(3600)


def _listen(**_: Any) -> None:
    signal.signal(signal.SIGUSR2, _hang)


worker_ready.connect(_listen)
