"""A bucket that answers each request after 75 ms, any number at a time, and stores nothing.

    python -m bench.distant FILE      writes its port to FILE

The emulator takes a millisecond of CPU or more for an upload, and more with each object. Beside a client that uploads
800 objects a second, it would need more than the two cores of a small machine. This server takes a fraction of that.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from support.waiting import wait_until

LATENCY = 0.075
_END_OF_HEAD = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """A client's connection, which is kept open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(_END_OF_HEAD)
        size = _content_length(head)
        if end and len(rest) >= size:
            self._received = rest[size:]
            asyncio.get_running_loop().call_later(LATENCY, self._answer, head, rest[:size])

    def _answer(self, head: bytes, body: bytes) -> None:
        answer = _stored(body) if head.startswith(b"POST") else b"{}"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
        self._transport.write(head + answer)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _stored(body: bytes) -> bytes:
    """The description of an object that was sent as multipart/related: its metadata in JSON, then its content.

    Source: https://cloud.google.com/storage/docs/uploading-objects#rest-upload-objects
    """
    boundary = body[: body.index(b"\r\n")]
    _, metadata, content = body.split(_END_OF_HEAD, 2)
    content = content.rpartition(b"\r\n" + boundary)[0]
    described = json.loads(metadata.partition(b"\r\n" + boundary)[0])
    return json.dumps({**described, "generation": "1", "metageneration": "1", "size": str(len(content))}).encode()


async def _serve(listening: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, sock=listening, backlog=256)
    await server.serve_forever()


def main() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    Path(sys.argv[1]).write_text(f"{listening.getsockname()[1]}\n")
    asyncio.run(_serve(listening))


@contextmanager
def distant_bucket(folder: Path) -> Iterator[str]:
    """The URL of an archive in such a bucket; STORAGE_EMULATOR_HOST points the real client to it."""
    file = folder / "distant-port"
    process = subprocess.Popen([sys.executable, "-m", "bench.distant", str(file)])
    try:
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"), what="the distant bucket listens")
        with patch.dict(os.environ, STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{file.read_text().strip()}"):
            yield "gs://distant/chats"
    finally:
        process.kill()
        process.wait()
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
