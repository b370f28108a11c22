"""Carrying out: a purge in the background of the console's process, with its end in the audit trail."""

from __future__ import annotations

from contextlib import ExitStack

from torpor.worker.audit.trail import Count
from torpor.worker.console.background import Background
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import purge


def carry_out(services: Services, background: Background, purge_id: str, count: Count, acts: ExitStack) -> bool:
    """Carry an order out in the background, and close `acts` with it; False if the workers must do it alone.

    If the process is killed, a sweep of the workers goes on.
    """
    own = acts.pop_all()

    def work() -> None:
        with own:
            standing = purge.carry_out(services, purge_id, lambda _: background.go_on())
            count.sessions = (standing.receipt.removed if standing.receipt else standing.found).sessions

    begun = background.start(f"purge {purge_id}", work)
    if not begun:
        own.close()
    return begun
