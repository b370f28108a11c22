"""The options by which a person says who acts and why, and the record of it in the audit trail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from torpor.worker.audit.entry import Act, Subject
from torpor.worker.audit.trail import Count, Who, recorded
from torpor.worker.cli import printing
from torpor.worker.deployment.services import Services

By = Annotated[str, typer.Option("--by", help="Say who does it; the audit trail has it.")]
Reason = Annotated[str, typer.Option("--reason", help="Say why; the audit trail has it. Write no message text.")]


@contextmanager
def audited(
    services: Services,
    act: Act,
    who: Who,
    *,
    sessions: Sequence[str] = (),
    owner: str | None = None,
    purge: str | None = None,
    compared: bool = True,
) -> Iterator[Count]:
    """Record in the audit trail what the body does; see `audit.trail.recorded`."""
    subject = Subject(sessions=list(sessions), owner=owner, purge=purge)
    with recorded(services, act, subject, who, printing.warn, compared=compared) as count:
        yield count
