"""Serving: the console's process, from its port to its end."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from torpor.history.protocol import InvalidArgument
from torpor.worker.console.application import application
from torpor.worker.console.settings import ConsoleSettings, SignInKind
from torpor.worker.console.sign_in import SignIn
from torpor.worker.console.sign_in.token import TokenSignIn
from torpor.worker.deployment.services import Services

# A request that runs when the process must end has so many seconds.
_GRACE_SECONDS = 5


def serve(services: Services, settings: ConsoleSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. `say` gets the address once the port is open. Raises InvalidArgument."""
    try:
        bound = socket.create_server((settings.host, settings.port), reuse_port=False)
    except OSError as exc:
        raise InvalidArgument(f"port {settings.port} of {settings.host} can't be opened: {exc.strerror}") from exc
    settings = settings.model_copy(update={"port": bound.getsockname()[1]})
    sign_in = _sign_in(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            application(services, settings, sign_in),
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            proxy_headers=False,
        )
    )
    say(f"the console is at {_address(settings, sign_in)}; Ctrl-C ends it")
    with bound:
        server.run(sockets=[bound])


def _sign_in(settings: ConsoleSettings) -> SignIn:
    match settings.sign_in:
        case SignInKind.TOKEN:
            return TokenSignIn()
        case _:
            raise InvalidArgument(f"signing in by {settings.sign_in} is not there yet")


def _address(settings: ConsoleSettings, sign_in: SignIn) -> str:
    if isinstance(sign_in, TokenSignIn):
        return f"http://127.0.0.1:{settings.port}/sign-in?token={sign_in.token}"
    return str(settings.url)
