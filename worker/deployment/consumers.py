"""The consumers of a worker: the part of Celery that takes messages from the broker, in the main thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

from torpor.worker.deployment import main_thread
from torpor.worker.logs.celery_logging import NotAcknowledged


class BeatingConsumer(Consumer):  # type: ignore[misc] # Celery is untyped
    """Celery's consumer, which also beats while it tries to reach a broker that is away, and notices that it is away.

    kombu logs a message that can't be acknowledged, and keeps its place among those that may be fetched. With all
    places taken it fetches nothing any more, and so never notices that the connection is lost.
    """

    _has_failed = False

    def check_connection(self) -> None:
        """Raise NotAcknowledged, after which Celery connects anew, if a message could not be acknowledged."""
        if self._has_failed:
            self._has_failed = False
            raise NotAcknowledged

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """The function that Celery calls with each message."""
        handle = super().create_task_handler(*arguments, **options)

        def handle_noticing(message: Any) -> Any:
            acknowledge = message.ack_log_error

            def acknowledge_noticing(*arguments: Any, **options: Any) -> None:
                acknowledge(*arguments, **options)
                if not message.acknowledged:
                    self._has_failed = True

            message.ack_log_error = acknowledge_noticing
            return handle(message)

        return handle_noticing

    def ensure_connected(self, connection: Any) -> Any:
        """The connection, after as many tries as it takes."""
        ensure = connection.ensure_connection

        def ensure_beating(*arguments: Any, callback: Callable[[], None], **options: Any) -> Any:
            def beat() -> None:  # kombu calls it once a second
                main_thread.beat()
                callback()

            return ensure(*arguments, callback=beat, **options)

        connection.ensure_connection = ensure_beating
        return super().ensure_connected(connection)


class SignedConsumer(BeatingConsumer):
    """The same for a worker that obeys signed tasks only: no header of a task counts, as nobody has signed them."""

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """The function that Celery calls with each message."""
        handle = super().create_task_handler(*arguments, **options)

        def handle_body(message: Any) -> Any:
            message.headers = {}
            return handle(message)

        return handle_body
