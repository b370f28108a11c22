"""TCP ports of this machine: free ones, and the processes that use the others."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


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


def process_of(port: int, candidates: Iterable[int]) -> int | None:
    """The process whose connection to this machine begins at a local port, if it is one of the candidates."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{fields[9]}]" for fields in lines if int(fields[1].rpartition(":")[2], 16) == port}
    return next((pid for pid in candidates if sockets & set(_open_files(pid))), None)


def _open_files(pid: int) -> Iterable[str]:
    with suppress(FileNotFoundError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                yield str(each.readlink())
