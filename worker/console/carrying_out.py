"""Carrying out: work in the background of the console's process, with its end in the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from torpor.worker.audit.trail import Count
from torpor.worker.console.background import Background
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import purge


def carry_out(background: Background, name: str, work: Callable[[], None], acts: ExitStack) -> bool:
    """Do `work` in the background, which counts sessions, and close `acts` with it.

    False if there is no room for it, and then `acts` stay open: the workers must do it alone. They also go on if the
    process is killed.
    """
    own = acts.pop_all()

    def carried() -> None:
        with own:
            work()

    begun = background.start(name, carried)
    if not begun:
        acts.push(own)
    return begun


def carry_out_purge(
    services: Services, background: Background, purge_id: str, count: Count, acts: ExitStack, *, resumes: bool = False
) -> bool:
    """Carry out the order of a purge, as `carry_out`; `resumes` if the order was given before."""

    def work() -> None:
        standing, worked = purge.go_on(services, purge_id, lambda _: background.go_on())
        count.is_unchanged = resumes and not worked
        count.sessions = standing.removed.sessions if worked or not resumes else 0

    return carry_out(background, f"purge {purge_id}", work, acts)
