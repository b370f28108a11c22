"""Serving: the console's process, from its port to its end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from torpor.history.protocol import InvalidArgument
from torpor.worker.console.serving.application import application
from torpor.worker.console.serving.impatience import ImpatientProtocol
from torpor.worker.console.settings import ConsoleSettings, SignInKind
from torpor.worker.console.sign_in import SignIn
from torpor.worker.console.sign_in.token import TokenSignIn
from torpor.worker.deployment.services import Services, connect
from torpor.worker.logs.formats import JsonFormatter

# A request that runs when the process must end has so many seconds.
_GRACE_SECONDS = 5
_LAST_SECONDS = 1
# Somebody looks at a page while the bucket is down, or while Redis hangs. Acts, such as an erasure, try for longer.
_PATIENCE_SECONDS = 10.0
_REPLY_SECONDS = 5.0
_MOST_HEADER_BYTES = 32 * 1024


def serve(services: Services, settings: ConsoleSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. `say` gets the address once the port is open. Raises InvalidArgument."""
    with _listen(settings) as bound:
        settings = settings.model_copy(update={"port": bound.getsockname()[1]})
        looking = connect(services.settings, patience=_PATIENCE_SECONDS, reply_seconds=_REPLY_SECONDS)
        sign_in = _sign_in(settings, looking)
        _log_to_stderr(services.settings.log_format)
        running = server(application(services, settings, sign_in, looking))
        say(f"the console is at {_address(settings, sign_in)}; Ctrl-C ends it")
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises its signal again when it has ended
        _run(running, bound)


def server(app: ASGIApp) -> uvicorn.Server:
    """The HTTP server of an application."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=ImpatientProtocol,
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )


def _run(running: uvicorn.Server, bound: socket.socket) -> None:
    code: Any = 0
    try:
        running.run(sockets=[bound])
    except SystemExit as ended:  # Ctrl-C
        code = ended.code
        raise
    finally:
        # Python waits for threads. Those that still wait for Redis have had their time: what they did can be repeated.
        last = threading.Timer(_LAST_SECONDS, os._exit, [code])
        last.daemon = True
        last.start()


def _listen(settings: ConsoleSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        bound = socket.create_server((settings.host, settings.port), family=family, reuse_port=False)
    except OSError as exc:
        raise InvalidArgument(f"port {settings.port} of {settings.host} can't be opened: {exc.strerror}") from exc
    # Connections inherit it; asyncio does not see that they are TCP's. Without it, the second part of a reply waits for
    # the browser to acknowledge the first one, up to 40 ms.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _log_to_stderr(log_format: str) -> None:
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _sign_in(settings: ConsoleSettings, services: Services) -> SignIn:
    match settings.sign_in:
        case SignInKind.TOKEN:
            return TokenSignIn()
        case SignInKind.IAP:
            from torpor.worker.console.sign_in.iap import IapSignIn

            return IapSignIn(settings)
        case SignInKind.OIDC:
            from torpor.worker.console.sign_in.oidc import OidcSignIn

            return OidcSignIn(settings, services.sessions)


def _address(settings: ConsoleSettings, sign_in: SignIn) -> str:
    """Where people open the console."""
    if isinstance(sign_in, TokenSignIn):
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return f"{settings.url or f'http://{host}:{settings.port}'}/sign-in?token={sign_in.token}"
    return str(settings.url)
