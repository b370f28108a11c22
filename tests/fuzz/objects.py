"""Damaged and hostile objects of an archive folder, each made from the sound segment of a session that sleeps."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from torpor.worker.archive.stores.folder_description import description_path

# Every kind changes the segment in the file `path`; sizes are bounded to a few MiB once unpacked.
Damage = Callable[[Random, Path], None]

TEXTS = [
    "",
    "s",
    "a\nb",
    "\x00",
    "x" * 2_000,
    "😀",
    "../../etc",
    "%2E%2E",
    "torpor:config",
    "\u202e",
    "healthy",
    "NaN",
    "-1",
]
TIMES = [
    "",
    "soon",
    "2024-01-01",
    "2024-01-01T00:00:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "1e9",
]
NUMBERS: list[Any] = [-1, 0, 1, 2**31, 2**63, 10**30, -(10**30), 1.5, True, None, "7", "1_0", "٣", [], {}]


def deep(rng: Random) -> str:
    """A value that is nested up to 3,000 levels deep, as JSON text."""
    levels = rng.choice([5, 150, 199, 201, 500, 990, 3_000])
    return "[" * levels + "]" * levels if rng.random() < 0.5 else '{"a":' * levels + "1" + "}" * levels


def value(rng: Random) -> Any:
    """A value that somebody might write in place of another."""
    return rng.choice([*TEXTS, *TIMES, *NUMBERS, ["x"], {"a": {"b": []}}, "\ud800", rng.random(), rng.getrandbits(70)])


def changed_bytes(rng: Random, data: bytes, upto: int) -> bytes:
    """Data with a few bytes changed, removed or added before position `upto`."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, min(upto, len(changed))))
        match rng.randrange(4):
            case 0:
                changed[at : at + 1] = rng.randbytes(1)
            case 1:
                del changed[at : at + rng.randint(1, 8)]
            case 2:
                changed[at:at] = rng.randbytes(rng.randint(1, 8))
            case _:
                del changed[at:]
    return bytes(changed)


def header(rng: Random, path: Path) -> None:
    path.write_bytes(changed_bytes(rng, path.read_bytes(), 18))


def body(rng: Random, path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(changed_bytes(rng, data, len(data)))


def members(rng: Random, path: Path) -> None:
    """More gzip after the end, or in its place."""
    more = b"".join(gzip.compress(rng.randbytes(rng.randrange(50)), mtime=0) for _ in range(rng.randint(1, 50)))
    path.write_bytes(path.read_bytes() * rng.randint(0, 2) + more)


def _rewrite(path: Path, lines: list[bytes], rng: Random, count: int | None = None) -> None:
    """Other lines, with the digests that go with them in name and metadata, and another count if it is given."""
    text = b"".join(lines)
    digest = hashlib.sha256(text).hexdigest()
    start, stop, _ = path.name.removesuffix(".jsonl.gz").split("-")
    stop = stop if count is None else str(count)
    there = json.loads(description_path(path).read_bytes())
    there["metadata"]["sha256"] = digest
    if rng.random() < 0.7:
        there["metadata"].pop("check", None)
    path.unlink()
    description_path(path).unlink()
    renamed = path.with_name(f"{start}-{stop}-{digest[:8]}.jsonl.gz")
    renamed.write_bytes(gzip.compress(text, 1, mtime=0))
    description_path(renamed).write_text(json.dumps(there))


def _lines(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines(keepends=True)


def lengths(rng: Random, path: Path) -> None:
    """A line that is long, empty, without an end, or ends otherwise."""
    lines = _lines(path)
    at = rng.randrange(len(lines))
    long = rng.choice([600_000, 1_100_000, 3_000_000])
    lines[at] = rng.choice(
        [
            lines[at].rstrip(b"\n"),
            lines[at].replace(b"\n", b"\r\n"),
            b"\n",
            b"x" * long,
            b"x" * long + b"\n",
            lines[at].replace(b"message", b"message" + b"x" * long, 2),
            lines[at] + b"\n",
            b"\x00" * 1_000 + lines[at],
        ]
    )
    _rewrite(path, lines, rng)


def nesting(rng: Random, path: Path) -> None:
    lines = _lines(path)
    at = rng.randrange(len(lines))
    head = lines[at].partition(b'"message":')[0]
    lines[at] = head + b'"message":' + deep(rng).encode() + b"}\n"
    _rewrite(path, lines, rng)


def counts(rng: Random, path: Path) -> None:
    """Another number of lines than the name says."""
    lines = _lines(path)
    lines = rng.choice([lines[:-1], lines[1:], lines * 2, lines[::-1], [], [*lines, lines[-1]], lines * 5_000])
    _rewrite(path, lines, rng, count=rng.choice([None, 0, 1, 10**6, 10**18, len(lines)]))


def fields(rng: Random, path: Path) -> None:
    """Other values in the lines' own fields: ids, epochs, numbers, times."""
    lines = _lines(path)
    at = rng.randrange(len(lines))
    name = rng.choice(["session_id", "epoch", "seq", "at", "message", "raw"])
    parsed = json.loads(lines[at])
    parsed[name] = value(rng)
    lines[at] = json.dumps(parsed, separators=(",", ":")).encode() + b"\n"
    _rewrite(path, lines, rng)


def ids(rng: Random, path: Path) -> None:
    """Names of objects that are nearly Torpor's, beside the sound one."""
    for _ in range(rng.randint(1, 3)):
        start, stop = (rng.choice(["0", "1", "00", "-1", "9" * 30, "x", "5"]) for _ in range(2))
        name = rng.choice(
            [
                f"{start}-{stop}-00000000.jsonl.gz",
                f"{start}-{stop}-{'g' * 8}.jsonl.gz",
                "floor",
                os.fsdecode(rng.randbytes(rng.randint(1, 40)).replace(b"/", b"").replace(b"\0", b"") + b"x"),
                "x" * rng.choice([200, 244, 255]),
            ]
        )
        folder = path.parent if rng.random() < 0.5 else path.parent.with_name(rng.choice(["1", "9" * 25, "01", "x"]))
        folder.mkdir(exist_ok=True)
        if not os.path.lexists(folder / name):
            (folder / name).write_bytes(rng.choice([b"", rng.randbytes(100), path.read_bytes()]))


def metadata(rng: Random, path: Path) -> None:
    """Other values in the metadata, with or without the check that goes with it."""
    there = json.loads(description_path(path).read_bytes())
    named = there["metadata"]
    for _ in range(rng.randint(1, 3)):
        name = rng.choice([*named, "new"])
        if rng.random() < 0.2:
            named.pop(name, None)
        else:
            named[name] = value(rng)
    if rng.random() < 0.7:
        named.pop("check", None)
    description_path(path).write_text(json.dumps(there))


def times(rng: Random, path: Path) -> None:
    """Other custom times and holds, times of the session, and times of the file."""
    there = json.loads(description_path(path).read_bytes())
    there["custom_time"] = rng.choice([*TIMES, *NUMBERS])
    there["held"] = rng.choice([True, False, "no", 1, None])
    for name in ("created", "active", "idle_ms", "retention_ms"):
        if rng.random() < 0.5:
            there["metadata"][name] = rng.choice([*TIMES, *TEXTS, str(2**70), "-5"])
    if rng.random() < 0.7:
        there["metadata"].pop("check", None)
    description_path(path).write_text(json.dumps(there))
    if rng.random() < 0.3:
        moment = rng.choice([0, -(2**31), 2**33, 2**40])
        os.utime(path, (moment, moment))


def descriptions(rng: Random, path: Path) -> None:
    """A description that is no JSON, or another JSON."""
    text = description_path(path).read_bytes()
    description_path(path).write_bytes(
        rng.choice(
            [
                changed_bytes(rng, text, len(text)),
                json.dumps(value(rng)).encode(),
                deep(rng).encode(),
                b" " * rng.choice([0, 1_000, 400_000]) + text,
                rng.randbytes(200),
                b"",
            ]
        )
    )


def links(rng: Random, path: Path) -> None:
    """What is no file in place of the segment, of its description or beside them: a link, a pipe, a folder."""
    target = rng.choice([path, description_path(path), path.with_name("beside"), path.parent / "floor"])
    target.unlink(missing_ok=True)
    match rng.randrange(5):
        case 0:
            target.symlink_to(target)
        case 1:
            target.symlink_to(rng.choice([path.parent, path.parents[4], path, Path("/nowhere")]))
        case 2:
            os.mkfifo(target)
        case 3:
            target.mkdir()
        case _:
            target.symlink_to("/dev/null")


OBJECTS: dict[str, Damage] = {
    each.__name__: each
    for each in (
        *(header, body, members, lengths, nesting, counts),
        *(fields, ids, metadata, times, descriptions, links),
    )
}
