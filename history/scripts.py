"""The Lua scripts: loaded here and nowhere else.

Two lines in the head of a Lua file say what the loader puts before it:
`-- Uses: clock, due`    what it needs of the files lua/lib/clock.lua and lua/lib/due.lua, and of those that they use
`-- Reads: epoch, floor` the function read_session(metadata_key), which reads these fields of a session
In a Lua file, FIELD.floor stands for the name that Redis stores for the field `floor`, and session.floor for its value
in what read_session returned. The loader replaces them by that name and by session[2], the place in the reply of Redis,
since a table with names would have to be made each time that a script runs.
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
_COMMENTS = re.compile(r"--.*")
# (name, text) of each function and constant of an include; the text ends before the comment of the next one.
_PARTS = re.compile(r"^(?=local (?:function )?(\w+))(local .+?)(?=^(?:--|local )|\Z)", re.MULTILINE | re.DOTALL)


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
    includes = [_read(f"lib/{each}") for each in _includes(name)]
    lua = _read(name)
    reads = [field for each in (*includes, lua) for field in named(each, "Reads")]
    source = _with_fields(_with_includes(lua, includes), reads).encode()
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


def _with_includes(lua: str, includes: list[str]) -> str:
    """A script after the parts of its includes that it needs: each one costs time whenever the script runs."""
    for name, part in reversed([found for include in includes for found in _PARTS.findall(include)]):
        if re.search(rf"\b{name}\b", _COMMENTS.sub("", lua)):
            lua = part + lua
    return lua


def _with_fields(lua: str, reads: list[str]) -> str:
    """A script with stored names and places in place of the fields' names, after read_session if it needs that."""
    lua = re.sub(r"\bFIELD\.(\w+)", lambda field: f"'{STORED[field[1]]}'", lua)
    lua = re.sub(r"\bsession\.(\w+)", lambda field: f"session[{reads.index(field[1]) + 1}]", lua)
    return _read_session(reads) + lua if reads else lua


def _read_session(names: list[str]) -> str:
    stored = ", ".join(f"'{STORED[name]}'" for name in names)
    return f"local function read_session(metadata_key) return redis.call('HMGET', metadata_key, {stored}) end\n"
