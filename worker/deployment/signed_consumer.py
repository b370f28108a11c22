"""The consumer of a worker that obeys signed tasks only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer


class SignedConsumer(Consumer):  # type: ignore[misc] # Celery is untyped
    """Celery's consumer, for which the headers of a task do not count, because nobody has signed them."""

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """The function that Celery calls with each message."""
        handle = super().create_task_handler(*arguments, **options)

        def handle_body(message: Any) -> Any:
            message.headers = {}
            return handle(message)

        return handle_body
