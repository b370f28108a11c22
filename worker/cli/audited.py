"""The options by which a person says who acts and why, and the record of it in the audit trail."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import typer

from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import EVERYTHING, Subject
from torpor.worker.audit.trail import Count, Sides, Who, recorded
from torpor.worker.cli import printing
from torpor.worker.deployment.services import Services

By = Annotated[str, typer.Option("--by", help="Say who does it; the audit trail has it.")]
Reason = Annotated[str, typer.Option("--reason", help="Say why; the audit trail has it. Write no message text.")]


def audited(
    services: Services,
    act: Act,
    who: Who,
    subject: Subject = EVERYTHING,
    *,
    sides: Sides = Sides.COMPARED,
    unless: bool = False,
) -> AbstractContextManager[Count]:
    """Record in the audit trail what the body does; nothing is recorded with `unless`. See `audit.trail.recorded`."""
    if unless:
        return nullcontext(Count())
    return recorded(services, act, subject, who, printing.warn, sides=sides)
