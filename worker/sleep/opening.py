"""Opening the deployment in a worker, which notes an archive that is down already when the worker starts."""

from __future__ import annotations

from torpor.history.protocol import ArchiveNote
from torpor.worker.deployment import worker_name
from torpor.worker.deployment.events import record_events
from torpor.worker.deployment.services import Services, connect, own
from torpor.worker.deployment.settings import Settings
from torpor.worker.errors import ArchiveUnavailable


def open_for_work(settings: Settings) -> Services:
    """As `open_deployment`; notes an ArchiveUnavailable before it raises it."""
    services = connect(settings)
    try:
        own(services)
    except ArchiveUnavailable as error:
        record_events(services, [], ArchiveNote(worker_name.get(), str(error)))
        raise
    return services
