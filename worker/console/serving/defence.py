"""Defence: what every request must satisfy, and what every reply forbids the browser."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing but this console's own files: no inline script or style, no frame, no other site.
# https://developer.mozilla.org/docs/Web/HTTP/Guides/CSP
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # With no-referrer, browsers would send `Origin: null` with each form: https://fetch.spec.whatwg.org/#origin-header
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ENCRYPTED = {"Strict-Transport-Security": "max-age=31536000"}
# A load balancer asks by the address of the process, not by the name of the console.
_LIVENESS = "/livez"
MOST_BODY_BYTES = 256 * 1024
# An id or an owner has at most 1,024 bytes, and three times as many characters in an address.
MOST_ADDRESS_BYTES = 16 * 1024


class Defence:
    """Refuses requests to another host and such as are too large, and adds the headers."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], *, is_encrypted: bool) -> None:
        self._app = app
        self._hosts = [[host] for host in hosts]
        self._headers = _HEADERS | (_ENCRYPTED if is_encrypted else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._answer_of(scope) or self._app
        await answer(scope, _bounded(receive), send_with_headers)

    def _answer_of(self, scope: Scope) -> ASGIApp | None:
        """What answers a request that no page sees; None for the others."""
        if scope["path"] == _LIVENESS and scope["method"] in ("GET", "HEAD"):
            return PlainTextResponse("ok\n")
        headers = Headers(scope=scope)
        if [host.lower() for host in headers.getlist("host")] not in self._hosts:
            return PlainTextResponse("this console has another address\n", 421)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_ADDRESS_BYTES:
            return PlainTextResponse("the address is too long\n", 414)
        if not _fits(headers.get("content-length", "0")):
            return PlainTextResponse("the form is too large\n", 413)
        return None


def _fits(length: str) -> bool:
    return length.isdecimal() and length.isascii() and int(length[:20]) <= MOST_BODY_BYTES


def _bounded(receive: Receive) -> Receive:
    """The same for a body without a length that the request has said before."""
    total = 0

    async def bounded() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MOST_BODY_BYTES:
            raise HTTPException(413, "the form is too large")
        return message

    return bounded
