"""A TCP proxy before a Redis that causes faults: it knows where each command and each reply ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import BinaryIO, Self

from torpor.history.scripts import all_scripts


class Fault(StrEnum):
    """What can happen to a command; each ends the connection."""

    CUT_BEFORE = "cut before"  # the command does not reach the server
    LOSE_REPLY = "lose reply"  # the server has executed it; the client gets no reply
    HALF_REPLY = "half a reply"
    STALLED_REPLY = "stalled reply"  # half a reply, and silence until the client gives up


Plan = Callable[[str], Fault | None]

# Commands that a client sends when it connects, and between commands: no part of an operation.
_ASIDE = {"HELLO", "AUTH", "SELECT", "CLIENT", "PING", "SCRIPT"}


def no_fault(_: str) -> Fault | None:
    return None


class Proxy:
    """Forwards to a local port, one command after the other. `plan` is asked for the fault of each.

    `commands` has their names in turn; a script has the name of its file. `hold` is called with each name, and may keep
    that command back; the other connections go on.
    """

    def __init__(self, upstream: int) -> None:
        self.plan: Plan = no_fault
        self.hold: Callable[[str], object] = lambda _: None
        self.commands: list[str] = []
        self._upstream = upstream
        self._scripts = {key: each.name for each in all_scripts() for key in (each.sha.encode(), each.source)}
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._serve()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def forward_to(self, upstream: int) -> None:
        """New connections go to another server, as after a failover; the open ones are cut."""
        self._upstream = upstream
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            ended, self._sockets = self._sockets, set()
        for each in ended:
            _end(each)

    def refuse(self) -> None:
        """End every connection and refuse new ones."""
        _end(self._listener)
        self._acceptor.join()
        self.cut()

    def accept(self) -> None:
        """Accept connections again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._serve()

    def _serve(self) -> None:
        self._acceptor = threading.Thread(target=self._accept, args=[self._listener], daemon=True)
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with self._lock:
                    self._sockets.add(client)
                threading.Thread(target=self._forward, args=[client], daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client, socket.create_connection(("127.0.0.1", self._upstream)) as server:
            with self._lock:
                self._sockets.add(server)
            with client.makefile("rb") as requests, server.makefile("rb") as replies:
                while self._pass_on(requests, client, replies, server):
                    pass
            _end(client)

    def _pass_on(self, requests: BinaryIO, client: socket.socket, replies: BinaryIO, server: socket.socket) -> bool:
        """Pass one command on, and its reply back; False if the connection ends here."""
        request = read_frame(requests)
        fault = self._fault(request)
        if fault is Fault.CUT_BEFORE:
            return False
        server.sendall(request)
        reply = read_frame(replies)
        if fault is None:
            client.sendall(reply)
            return True
        if fault is not Fault.LOSE_REPLY:
            client.sendall(reply[: len(reply) // 2])
        if fault is Fault.STALLED_REPLY:
            requests.read()
        return False

    def _fault(self, request: bytes) -> Fault | None:
        words = request.split(b"\r\n", 5)
        name = words[2].decode().upper()
        if name in _ASIDE:
            return None
        if name.startswith("EVAL"):
            size = int(words[3][1:])
            body = request[request.index(words[3] + b"\r\n") + len(words[3]) + 2 :][:size]
            name = self._scripts.get(body, "a script of redis-py's lock")
        with self._lock:
            self.commands.append(name)
            fault = self.plan(name)
        self.hold(name)
        return fault


def read_frame(stream: BinaryIO) -> bytes:
    """The bytes of one complete value of the Redis protocol, version 2 or 3; raises EOFError."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    kind, rest = line[:1], line[1:-2]
    if kind in b"$=!":
        size = int(rest)
        return line + (stream.read(size + 2) if size >= 0 else b"")
    if kind in b"*~>%|":
        parts = int(rest) * (2 if kind in b"%|" else 1) + (1 if kind == b"|" else 0)
        return line + b"".join(read_frame(stream) for _ in range(parts))
    return line


def nth(number: int, fault: Fault) -> Plan:
    """A plan with this fault for the nth command, counted from 1, and none for the others."""
    left = iter(range(1, number + 1))

    def plan(_: str) -> Fault | None:
        return fault if next(left, None) == number else None

    return plan


def first(name: str, fault: Fault) -> Plan:
    """A plan with this fault for the first run of the script with this name."""
    assert name in {each.name for each in all_scripts()}, name
    names = iter([name])

    def plan(command: str) -> Fault | None:
        return fault if command == name and next(names, None) else None

    return plan


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
