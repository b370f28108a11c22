"""The Lua scripts: loaded here and nowhere else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the SHA-1 that EVALSHA knows it by."""

    name: str
    source: bytes
    sha: str


def all_scripts() -> list[Script]:
    """Every script, by name."""
    names = sorted(path.name for path in (files(__package__) / "lua").iterdir())
    return [script(name.removesuffix(".lua")) for name in names if name.endswith(".lua") and name[0] != "_"]


@cache
def script(name: str) -> Script:
    """The script `lua/<name>.lua` with the prelude before it."""
    folder = files(__package__) / "lua"
    source = (folder / "_prelude.lua").read_bytes() + b"\n" + (folder / f"{name}.lua").read_bytes()
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest())
