"""Monitor: the port of a process for metrics and probes, with all that stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import Settings
from torpor.worker.monitoring import endpoint
from torpor.worker.monitoring.endpoint import Endpoint
from torpor.worker.monitoring.exposition import Exposition
from torpor.worker.monitoring.health import ArchiveQuestion, Readiness, RedisQuestion

# A service that does not answer so soon is not ready.
_PATIENCE_SECONDS = 2.0


class Monitor:
    """Serves /metrics, /livez and /readyz."""

    def __init__(
        self,
        settings: Settings,
        port: int,
        *,
        faults: Callable[[], Iterable[str]],
        questions: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        """`faults` for /livez; `questions` for /readyz beside those to Redis and to the archive. Raises OSError."""
        # Connections of their own: a check must not wait for the work, nor the work for a check.
        services = cache(lambda: connect(settings, reply_seconds=_PATIENCE_SECONDS))
        archive = open_archive(settings.archive_url, threads=1, patience=_PATIENCE_SECONDS)
        self._readiness = Readiness(_questions(services, archive) | dict(questions or {}))
        exposition = Exposition(services)
        self._endpoint = Endpoint(
            port,
            {
                "/metrics": lambda: endpoint.metrics(exposition.text()),
                "/livez": lambda: endpoint.probe(faults()),
                "/readyz": lambda: endpoint.probe(self._readiness.faults()),
            },
        )

    def start(self) -> None:
        """Begin to check and to serve."""
        self._readiness.start()
        self._endpoint.start()

    def stop(self) -> None:
        """Close the port."""
        self._endpoint.stop()
        self._readiness.stop()


def _questions(services: Callable[[], Services], archive: ArchiveStore) -> dict[str, Callable[[], object]]:
    return {"Redis": RedisQuestion(services), "the archive": ArchiveQuestion(archive)}
