"""A server of HTTP whose replies take too long or are too large, in harmless amounts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from support.tls import HOST

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPPING = {
    "a head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
    "interim replies": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000,
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
    "chunks": CHUNKED + b"1\r\nx\r\n" * 10_000,
}
POURED = {
    "a long head": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(40_000)),
    "interim replies": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40_000,
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n" + b"x" * 1_000_000,
    "chunks": CHUNKED + b"10000\r\n%b\r\n" % (b"x" * 0x10000) * 20,
    "an error": b"HTTP/1.1 503 \r\nContent-Length: 400000000\r\n\r\n" + b"x" * 1_000_000,
}


@contextmanager
def pouring(said: bytes, *, at_a_time: int, pause: float) -> Iterator[str]:
    """A server that begins each reply anew until the other side has had enough."""
    with socket.create_server((HOST, 0)) as listening:

        def pour() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        connection.recv(65_536)
                        for first in range(0, len(said), at_a_time):
                            connection.sendall(said[first : first + at_a_time])
                            enough.wait(pause)

        enough = threading.Event()
        thread = threading.Thread(target=pour, daemon=True)
        thread.start()
        yield f"http://{HOST}:{listening.getsockname()[1]}"
        enough.set()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)
