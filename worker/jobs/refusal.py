"""Which orders are refused: damaged ones, another deployment's, and works that this version does not know."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from torpor.history.protocol import PermanentError
from torpor.worker.deployment.services import Services
from torpor.worker.errors import DeploymentMismatch, JobNotFound
from torpor.worker.jobs.job import Job
from torpor.worker.jobs.work import Means, Work, Works


def made(works: Works, means: Means, order: Job) -> Work:
    """The work of an order; raises DeploymentMismatch, JobNotFound, InvalidArgument and DocumentDamaged."""
    ours = means.services.sessions.identity().deployment
    if order.deployment != ours:
        raise DeploymentMismatch(
            f"job {order.id} was ordered for deployment {order.deployment}, and this is {ours}: "
            f"torpor jobs --cancel {order.id}, and order it again"
        )
    if order.work not in works:
        raise JobNotFound(f"this version of Torpor knows no work {order.work!r}, which job {order.id} asks for")
    return works[order.work](means, order)


def reason(services: Services, works: Works, order: Job) -> str | None:
    """Why an order is refused; None if it is not. Changes nothing."""
    with ThreadPoolExecutor(1) as pool:  # it starts no thread before it is given something
        try:
            made(works, Means(services, pool, lambda: None), order)
        except PermanentError as error:
            return str(error)
    return None
