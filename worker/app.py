"""The Celery app and the beat schedule: `celery -A worker.app worker`, `celery -A worker.app beat`."""

from __future__ import annotations

from celery import Celery

from worker.settings import Settings, load_settings


def make_app(settings: Settings) -> Celery:
    """A Celery app for a deployment.

    Messages are hints, the due index is the truth: they are acknowledged early, expire after one sweep interval,
    and nothing waits for a result.
    """
    app = Celery("torpor", include=["worker.tasks"])
    app.conf.update(
        broker_url=settings.celery_broker,
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(settings),
        task_default_queue=settings.namespace,
        task_acks_late=False,
        worker_cancel_long_running_tasks_on_connection_loss=True,  # Celery 6's default; only for late acks
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        timezone="UTC",
        beat_schedule={
            "torpor.sweep": {
                "task": "torpor.sweep",
                "schedule": settings.sweep_interval_seconds,
                "options": {"expires": settings.sweep_interval_seconds},
            }
        },
    )
    return app


def _transport_options(settings: Settings) -> dict[str, str]:
    """Keep Celery's keys within the namespace, so that deployments can share a Redis."""
    if settings.celery_broker.startswith(("redis://", "rediss://", "redis+socket://")):
        return {"global_keyprefix": f"{settings.namespace}:celery:"}
    return {}


app = make_app(load_settings())
