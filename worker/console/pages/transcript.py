"""The page of a transcript, read from wherever it lies, without waking its session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

from starlette.responses import Response

from torpor.history.protocol import InvalidArgument, check_session_id
from torpor.worker.archive.spool import Spool
from torpor.worker.audit.entry import Subject
from torpor.worker.console import cookie
from torpor.worker.console.visit import Visit
from torpor.worker.deployment import identity
from torpor.worker.wake.read import Transcript, open_transcript

_PAGE = 50
_FORMS = ("text", "json")
# Characters of one message that a page of it has.
_PORTION = 50_000
# The field of the signed cookie that says why a session is shown.
_WHY = "why"
# The cookie has room for so many characters of any alphabet, and bytes.
MOST_WHY = 200
_MOST_WHY_BYTES = 6 * MOST_WHY


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which part of a transcript the request is for."""

    page: int
    message: int | None
    start: int
    form: str

    @classmethod
    def of(cls, visit: Visit) -> _Asked:
        """Raises InvalidArgument, before the audit trail has an entry."""
        form = visit.given("form", "text")
        if form not in _FORMS:
            raise InvalidArgument(f"a message is shown as one of {', '.join(_FORMS)}")
        message = _number(visit, "message", 0) if visit.given("message", "") else None
        return cls(_number(visit, "page", 1), message, _number(visit, "start", 0), form)


def show(visit: Visit) -> Response:
    """The `page` of 50 messages, from 1 on; or with `message` a portion of one, whose first character is `start`.

    The audit trail says that the session was shown. If a reason is required, it is asked for first.
    """
    session_id, asked = check_session_id(visit.given("id")), _Asked.of(visit)
    reason = visit.request.session.get(_WHY, {}).get(_key(session_id))
    if visit.services.settings.require_reason and not reason:
        return visit.page("transcript_reason.html", session=session_id, most=MOST_WHY)
    # The console may have begun while one of them was down.
    identity.check(visit.services.sessions, visit.services.archive)
    with (
        visit.audited(reason or "", Subject(sessions=[session_id])) as count,
        open_transcript(visit.services, session_id) as transcript,
    ):
        count.sessions = 1
        if asked.message is None:
            return _page(visit, session_id, transcript, asked.page)
        return _one(visit, session_id, transcript.elements, asked)


def why(visit: Visit) -> Response:
    """Remember, until another session is shown, why this one is; then show it."""
    session_id, reason = check_session_id(visit.given("id")), visit.reason()
    if cookie.size(reason) > _MOST_WHY_BYTES:
        raise InvalidArgument(f"the reason is too long: say it in {MOST_WHY} characters")
    visit.request.session[_WHY] = {_key(session_id): reason}
    return visit.go_to(visit.path("/session/transcript", id=session_id))


def _page(visit: Visit, session_id: str, transcript: Transcript, page: int) -> Response:
    from torpor.worker.console.speaking import Elements  # loads LangChain

    total = len(transcript.elements)
    pages = max(-(-total // _PAGE), 1)
    if not 1 <= page <= pages:
        raise InvalidArgument(f"page {page:,} is none of the {pages:,} pages of this transcript")
    first = (page - 1) * _PAGE
    elements = Elements().of(transcript.elements.part(first, first + _PAGE), first)
    return visit.page(
        "transcript.html",
        session=session_id,
        owner=transcript.owner,
        kind=transcript.kind,
        elements=elements,
        total=total,
        first=first,
        page=page,
        pages=pages,
    )


def _one(visit: Visit, session_id: str, elements: Spool, asked: _Asked) -> Response:
    from torpor.worker.console.speaking import whole  # loads LangChain

    position, start, form = asked.message or 0, asked.start, asked.form
    element = next(elements.part(position, position + 1), None)
    if element is None:
        raise InvalidArgument(f"this transcript has {len(elements):,} messages, each as text or json")
    text = whole(element, as_json=form == "json")
    return visit.page(
        "message.html",
        session=session_id,
        position=position,
        page=position // _PAGE + 1,
        form=form,
        text=text[start : start + _PORTION],
        start=start,
        stop=min(start + _PORTION, len(text)),
        portion=_PORTION,
        characters=len(text),
    )


def _key(session_id: str) -> str:
    """A session in the cookie, whatever the length of its id."""
    return sha256(session_id.encode()).hexdigest()


def _number(visit: Visit, name: str, default: int) -> int:
    given = visit.given(name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", given):
        raise InvalidArgument(f"{name} must be a whole number")
    return int(given)
