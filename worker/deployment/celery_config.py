"""Celery's configuration for a deployment, and an app that has it: enough to send tasks by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from torpor.worker.archive.stores.url import parse_archive_url
from torpor.worker.deployment.broker_url import trusts_one_authority
from torpor.worker.deployment.settings import Settings

# How old a hint may be. A worker compares it with its own clock, so it is long beside the difference between clocks.
HINT_SECONDS = 300
_EXPIRE_SECONDS = 3600
# Whoever orders a purge carries it out. Once in so many sweeps, beat has workers look for interrupted ones, and for
# jobs that they can take part in.
_SWEEPS_OF_PURGES = 4
# Celery's connections to a broker whose name is not compared.
_ONE_AUTHORITY = "torpor.worker.deployment.one_authority"
_REDIS = ("redis://", "rediss://", "redis+socket://")


def make_app(settings: Callable[[], Settings], *, set_as_current: bool = True) -> Celery:
    """A Celery app for a deployment. It calls `settings` when Celery first needs its configuration."""
    app = Celery(
        "torpor",
        include=["torpor.worker.tasks"],
        log="torpor.worker.logs.celery_logging:EscapedLogging",
        set_as_current=set_as_current,
    )
    app.add_defaults(lambda: _configuration(settings()))
    return app


def _configuration(settings: Settings) -> dict[str, Any]:
    """Messages are hints, and the due index is the truth. So messages are acknowledged early and expire soon."""
    return {
        "broker_url": settings.celery_broker,
        "broker_transport": f"{_ONE_AUTHORITY}:Transport" if trusts_one_authority(settings.celery_broker) else None,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": _transport_options(settings),
        "task_default_queue": settings.namespace,
        "task_acks_late": False,
        "worker_cancel_long_running_tasks_on_connection_loss": True,  # Celery 6's default; only for late acks
        "task_ignore_result": True,
        "worker_prefetch_multiplier": 1,
        "worker_consumer": "torpor.worker.deployment.consumers:BeatingConsumer",
        "worker_enable_remote_control": settings.remote_control,
        "timezone": "UTC",
        "torpor_log_format": settings.log_format,
        "torpor_broker_is_redis": settings.broker_url is None,
        "beat_schedule": {
            "torpor.sweep": {
                "task": "torpor.sweep",
                "schedule": settings.sweep_interval_seconds,
                "options": {"expires": HINT_SECONDS},
            },
            "torpor.sweep_purges": {
                "task": "torpor.sweep_purges",
                "schedule": _SWEEPS_OF_PURGES * settings.sweep_interval_seconds,
                "options": {"expires": HINT_SECONDS},
            },
            "torpor.sweep_jobs": {
                "task": "torpor.sweep_jobs",
                "schedule": _SWEEPS_OF_PURGES * settings.sweep_interval_seconds,
                "options": {"expires": HINT_SECONDS},
            },
            **_expiry(settings),
        },
        **_results(settings),
        **(settings.signing.options() if settings.signing else {}),
    }


def _results(settings: Settings) -> dict[str, Any]:
    """Keep the results of purges in the broker for a day, if it is a Redis. No other task has a result."""
    url = settings.celery_broker.split(";")[0]  # of several brokers the first, for all who wait for a result
    if not url.startswith(_REDIS):
        return {}
    return {
        "result_backend": f"{_ONE_AUTHORITY}:Results+{url}" if trusts_one_authority(url) else url,
        "result_expires": 86_400,
        "result_backend_transport_options": {"global_keyprefix": f"{settings.namespace}:celery:"},
    }


def _expiry(settings: Settings) -> dict[str, Any]:
    """Schedule the expiry of a folder. A bucket has a lifecycle rule for it."""
    if not isinstance(parse_archive_url(settings.archive_url), Path):
        return {}
    options = {"expires": HINT_SECONDS}
    return {"torpor.expire": {"task": "torpor.expire", "schedule": _EXPIRE_SECONDS, "options": options}}


def _transport_options(settings: Settings) -> dict[str, Any]:
    """Keep Celery's keys within the namespace, so that deployments can share a Redis; give up on one that hangs."""
    if settings.celery_broker.startswith(_REDIS):
        return {
            "global_keyprefix": f"{settings.namespace}:celery:",
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
        }
    return {}
