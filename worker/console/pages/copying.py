"""A copy for a person who asks what is kept: made in the background, then downloaded as one file."""

from __future__ import annotations

from contextlib import ExitStack

from starlette.responses import FileResponse, Response

from torpor.history.protocol import PermanentError, SessionNotFound, check_owner
from torpor.worker.audit.entry import Subject
from torpor.worker.console.copies import Copy, CopyState
from torpor.worker.console.visit import Visit
from torpor.worker.deployment import identity
from torpor.worker.erasure import known
from torpor.worker.erasure.order import Order
from torpor.worker.jobs.orders import check_id


def begin(visit: Visit) -> Response:
    """Begin to copy all sessions of an owner."""
    reason, owner = visit.reason(), check_owner(visit.given("owner"))
    services = visit.services
    identity.require(services.sessions, services.archive)
    copy = Copy(owner, visit.person.name, reason)
    with ExitStack() as stack:
        count = stack.enter_context(visit.audited(reason, Subject(owner=owner)))
        known.check(services, Order.of(owner=owner))
        try:
            visit.copies.begin(services, copy, count, stack)
        except OSError as exc:
            raise PermanentError(f"there is no place for the copy: {exc.strerror}") from exc
    return visit.go_to(visit.path("/copy", id=copy.id))


def one(visit: Visit) -> Response:
    """How far a copy is, and its file. With `part`, only what it replaces of itself while it is made."""
    template = "copy_now.html" if visit.given("part", "") else "copy.html"
    copy = _found(visit)
    return visit.page(template, copy=copy, is_done=copy.state in (CopyState.READY, CopyState.FAILED))


def download(visit: Visit) -> Response:
    """The file. A download that was interrupted goes on where it was (HTTP Range)."""
    copy = _found(visit)
    if copy.file is None or copy.state is not CopyState.READY:
        raise SessionNotFound("this copy is not ready")
    return FileResponse(copy.file, media_type="application/zip", filename=copy.file_name)


def delete(visit: Visit) -> Response:
    """Delete the file now."""
    copy = _found(visit)
    visit.copies.delete(copy)
    return visit.go_to(visit.path("/person", owner=copy.owner), "The copy is deleted from the console's disk.")


def _found(visit: Visit) -> Copy:
    copy = visit.copies.find(check_id(visit.given("id"), "copy"), visit.person.name)
    if copy is None:
        raise SessionNotFound(
            "there is no such copy of yours here: an hour has passed, the console has started again, or another "
            "process of the console has it"
        )
    return copy
