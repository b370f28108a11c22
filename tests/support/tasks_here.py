"""Tasks that a test runs in its own process."""

from __future__ import annotations

from torpor.worker import tasks
from torpor.worker.deployment.settings import own_settings


def forget_deployment() -> None:
    """Have the next task read the environment and connect again."""
    own_settings.cache_clear()
    tasks._opened.cache_clear()
