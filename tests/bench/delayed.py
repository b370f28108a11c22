"""A proxy that hands each answer of a server on so many seconds later, for any number of connections.

    python -m bench.delayed PORT SECONDS FILE      writes its port to FILE

In front of the Cloud Storage emulator it is a bucket that is far away, and that stores what it is sent.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.waiting import wait_until

_READ_BYTES = 256 * 1024


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while part := await reader.read(_READ_BYTES):
        if seconds:
            loop.call_later(seconds, writer.write, part)
        else:
            writer.write(part)
    loop.call_later(seconds, writer.close)


async def _serve(listening: socket.socket, port: int, seconds: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, to_there, 0), _pass_on(there, writer, seconds), return_exceptions=True)

    server = await asyncio.start_server(connected, sock=listening, backlog=256)
    await server.serve_forever()


@contextmanager
def delayed(folder: Path, port: int, seconds: float) -> Iterator[int]:
    """The port of a proxy to `port`."""
    file = folder / "delayed-port"
    process = subprocess.Popen([sys.executable, "-m", "bench.delayed", str(port), str(seconds), str(file)])
    try:
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"), what="the proxy listens")
        yield int(file.read_text())
    finally:
        process.kill()
        process.wait()
        file.unlink(missing_ok=True)


def main() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    Path(sys.argv[3]).write_text(f"{listening.getsockname()[1]}\n")
    asyncio.run(_serve(listening, int(sys.argv[1]), float(sys.argv[2])))


if __name__ == "__main__":
    main()
