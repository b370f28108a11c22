"""Free TCP ports of this machine."""

from __future__ import annotations

import os
import socket


def free_port() -> int:
    """A port that nobody listens at; no two of the processes that pytest-xdist starts are given the same."""
    # https://pytest-xdist.readthedocs.io/en/stable/how-to.html: which of how many processes this is.
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port // 2 % shares == share:  # Linux gives ports of one parity only
            return port
