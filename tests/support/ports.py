"""Free TCP ports of this machine."""

from __future__ import annotations

import os
import socket


def free_port() -> int:
    """A free port; two processes of pytest-xdist never get the same one."""
    # https://pytest-xdist.readthedocs.io/en/stable/how-to.html: the number of this process.
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port // 2 % shares == share:  # Linux gives ports of one parity only
            return port
