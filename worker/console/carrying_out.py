"""Carrying out: work in the background of the console's process, with its end in the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from torpor.worker.audit.trail import Count
from torpor.worker.console.background import Background
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import purge


def carry_out(background: Background, name: str, work: Callable[[], int], count: Count, acts: ExitStack) -> bool:
    """Do `work` in the background, count the sessions that it returns, and close `acts` with it.

    False if there is no room for it: the workers must do it alone. They also go on if the process is killed.
    """
    own = acts.pop_all()

    def carried() -> None:
        with own:
            count.sessions = work()

    begun = background.start(name, carried)
    if not begun:
        own.close()
    return begun


def carry_out_purge(services: Services, background: Background, purge_id: str, count: Count, acts: ExitStack) -> bool:
    """Carry out the order of a purge, as `carry_out`."""

    def work() -> int:
        standing = purge.carry_out(services, purge_id, lambda _: background.go_on())
        return (standing.receipt.removed if standing.receipt else standing.found).sessions

    return carry_out(background, f"purge {purge_id}", work, count, acts)
