"""The Lua scripts: loaded here and nowhere else.

Two lines in the head of a Lua file say what the loader puts before it:
`-- Uses: clock, due`    the files lua/lib/clock.lua and lua/lib/due.lua, and the files that they use, each once
`-- Reads: epoch, floor` the function read_session(metadata_key), which reads these fields into a table with these names
In a Lua file, FIELD.floor stands for the name that Redis stores for the field `floor`. The loader replaces it by that
name, since a table of all names would have to be made each time that a script runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from torpor.history.fields import STORED

_FOLDER = files(__package__) / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the SHA-1 that EVALSHA knows it by."""

    name: str
    source: bytes
    sha: str


def all_scripts() -> list[Script]:
    """Every script, by name."""
    names = sorted(path.name for path in _FOLDER.iterdir())
    return [script(name.removesuffix(".lua")) for name in names if name.endswith(".lua")]


@cache
def script(name: str) -> Script:
    """The script `lua/<name>.lua`, after the files that it uses."""
    source = "\n".join(map(_with_fields, [*(_read(f"lib/{each}") for each in _includes(name)), _read(name)])).encode()
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


def named(lua: str, line: str) -> list[str]:
    """The names in the `Uses` or the `Reads` line of a Lua file; further lines of it begin with `--   `."""
    found = re.search(rf"^-- {line}: (.+(?:\n--   .+)*)", lua, re.MULTILINE)
    return re.findall(r"\w+", found[1]) if found else []


@cache
def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def _includes(name: str) -> list[str]:
    """The includes of a Lua file: each once, after those that it uses itself."""
    return list(dict.fromkeys(_walk(name)))


def _walk(name: str) -> Iterator[str]:
    for include in named(_read(name), "Uses"):
        yield from _walk(f"lib/{include}")
        yield include


def _with_fields(lua: str) -> str:
    """A Lua file with the stored names of the fields, after its function read_session if it needs one."""
    lua = re.sub(r"\bFIELD\.(\w+)", lambda field: f"'{STORED[field[1]]}'", lua)
    names = named(lua, "Reads")
    return _read_session(names) + lua if names else lua


def _read_session(names: list[str]) -> str:
    stored = ", ".join(f"'{STORED[name]}'" for name in names)
    session = ", ".join(f"{name} = values[{index}]" for index, name in enumerate(names, 1))
    return (
        "local function read_session(metadata_key)\n"
        f"  local values = redis.call('HMGET', metadata_key, {stored})\n"
        f"  return {{{session}}}\n"
        "end\n"
    )
