"""Endpoint: the HTTP port with /metrics, /livez and /readyz."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from torpor.worker.control_characters import printable

log = logging.getLogger("torpor.endpoint")

# Prometheus's text format: https://prometheus.io/docs/instrumenting/exposition_formats/
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
# A client that sends nothing for so long is given up.
_TIMEOUT_SECONDS = 10


class Page(NamedTuple):
    """The reply to a request."""

    status: HTTPStatus
    content_type: str
    body: bytes


def probe(faults: Iterable[str]) -> Page:
    """The reply of a probe: 200, or 503 with a line for each fault."""
    lines = [printable(fault).replace("\n", " ") for fault in faults]
    status = HTTPStatus.SERVICE_UNAVAILABLE if lines else HTTPStatus.OK
    return Page(status, _TEXT, ("\n".join(lines or ["ok"]) + "\n").encode())


def metrics(text: bytes) -> Page:
    """The reply to a scrape."""
    return Page(HTTPStatus.OK, _METRICS, text)


class Endpoint:
    """Serves pages by their paths, each request in a thread."""

    def __init__(self, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        """Binds the port on all addresses of IPv4; 0 takes a free one. Raises OSError."""
        self._server = _Server(("", port), _handler(pages))
        self._thread = threading.Thread(target=self._server.serve_forever, name="torpor-http", daemon=True)

    @property
    def port(self) -> int:
        """The port."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve in a thread until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature is socketserver's
        log.debug("a request was given up")


def _handler(pages: Mapping[str, Callable[[], Page]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_SECONDS
        server_version = "torpor"
        sys_version = ""

        def do_GET(self) -> None:
            make = pages.get(self.path.partition("?")[0])
            if make is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            page = make()
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            log.debug(format, *arguments)

    return Handler
