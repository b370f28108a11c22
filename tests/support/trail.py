"""The audit trail as a test reads it: every entry must be readable."""

from __future__ import annotations

from typing import NoReturn

from torpor.worker.audit import reading
from torpor.worker.audit.reading import Entry
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DocumentDamaged


def entries_of(services: Services) -> list[Entry]:
    """All entries, oldest first; raises DocumentDamaged."""
    return list(reading.entries(services, refuse))


def refuse(error: DocumentDamaged) -> NoReturn:
    raise error
