"""The Celery tasks, with permanent names. They carry no state: losing one delays work and loses none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache

from celery import shared_task

from history import RedisMemoryFull
from worker import archive, purge, restore
from worker import drain as draining
from worker.app import HINT_SECONDS
from worker.services import Services, open_deployment
from worker.settings import load_settings
from worker.sweep import pack

log = logging.getLogger("torpor.tasks")


@cache
def services() -> Services:
    """The services of the process; the first call records the deployment's default expiry and policies."""
    connected = open_deployment(load_settings())
    connected.sessions.load_scripts()
    settings = connected.settings
    max_age = settings.max_age_seconds
    try:
        connected.sessions.configure(
            idle=timedelta(seconds=settings.idle_timeout_seconds),
            max_age=None if max_age is None else timedelta(seconds=max_age),
            policies=settings.rules,
        )
    except RedisMemoryFull as error:
        log.warning("the default expiry and policies were not recorded: %s", error)  # archiving comes first
    return connected


@shared_task(name="torpor.sweep")
def sweep() -> int:
    """Send what is due off in drains; returns how many."""
    return send_drains(services().sessions.due_counts())


def send_drains(due: Mapping[int, int]) -> int:
    """Have shards drained, of which each has so many due sessions; returns how many drains were sent."""
    drains = pack(due)
    for shards in drains:
        drain.apply_async(args=[shards], expires=HINT_SECONDS, retry=False)
    return len(drains)


@shared_task(name="torpor.drain")
def drain(shards: list[int]) -> dict[str, int]:
    """Archive the due sessions of these shards; returns how many ended how."""
    return {str(outcome): count for outcome, count in draining.drain(services(), shards).items()}


@shared_task(name="torpor.archive_session")
def archive_session(session_id: str) -> str:
    """Archive one session now, due or not; returns the outcome."""
    return str(archive.archive_session(services(), session_id).outcome)


@shared_task(name="torpor.restore_session")
def restore_session(session_id: str) -> str:
    """Wake one session up; returns the outcome."""
    return str(restore.restore_session(services(), session_id).outcome)


@shared_task(name="torpor.expire")
def expire() -> int:
    """Delete what the archive need not keep any more, unless the store does so by itself; returns how many objects."""
    return services().archive.expire(datetime.now(UTC))


@shared_task(name="torpor.purge_session")
def purge_session(session_id: str) -> int:
    """Remove one session from Redis and the archive; returns how many objects were deleted."""
    return purge.purge_session(services(), session_id).objects
