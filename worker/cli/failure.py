"""How the `torpor` command ends when something fails: one line on standard error, and an exit code."""

from __future__ import annotations

import sys
from typing import NoReturn

from torpor.history.protocol import InvalidArgument, SessionNotFound, TorporError, TransientError
from torpor.worker.cli import printing
from torpor.worker.errors import (
    ArchiveMisconfigured,
    DeploymentMismatch,
    HoldNotFound,
    ImportFailed,
    JobNotFound,
    OwnerNotFound,
    PurgeNotFound,
    SettingsError,
)

# The first class that matches the error decides. The help of `torpor` documents the codes.
_EXIT_CODES: list[tuple[type[TorporError], int]] = [
    (SettingsError, 2),
    (InvalidArgument, 2),
    (ImportFailed, 2),
    (SessionNotFound, 3),
    (PurgeNotFound, 3),
    (JobNotFound, 3),
    (HoldNotFound, 3),
    (OwnerNotFound, 3),
    (ArchiveMisconfigured, 2),
    (DeploymentMismatch, 2),
    (TransientError, 4),
    (TorporError, 1),
]


def fail(error: Exception) -> NoReturn:
    """Print the error and end the process; raise it again if it is none of Torpor's own."""
    for kind, code in _EXIT_CODES:
        if isinstance(error, kind):
            printing.warn(f"torpor: {error}")
            sys.exit(code)
    raise error
