"""Measures Torpor beside its alternatives and beside the least that the same work can take: `make bench`.

make bench                                    all rows; writes docs/performance.md
make bench ARGS="--only write --rounds 9"     the rows whose names begin with this; writes nothing
make bench ARGS="--only write --profile"      and shows where Torpor's time goes
make bench ARGS="--only thread"               threads of LangGraph beside other savers; writes their part of the page
make bench ARGS="--only zstd"                 compressed messages beside plain ones; writes their part of the page
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import archiving, celery_share, compressing, footprint, index, page, reading, restoring, threads, writing
from bench.harness import Bench, Result, Row, measure, profile
from support.emulator import storage_emulator
from support.waiting import wait_until
from torpor.history.protocol import SessionStore

ROWS: Sequence[Row] = [
    row for group in (writing, reading, footprint, index, archiving, restoring, celery_share) for row in group.ROWS
]

# The rows that have a part of the page for themselves, and the packages that it names.
PARTS: dict[str, tuple[Sequence[Row], Sequence[str]]] = {
    "threads": (
        threads.ROWS,
        ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-plainredis", "langgraph-checkpoint-aws"),
    ),
    "compression": (
        compressing.ROWS,
        ("redis", "langchain-core", "langchain-google-memorystore-redis", "zstandard"),
    ),
}


def main() -> None:
    arguments = _arguments()
    rows = [*ROWS, *(row for part, _ in PARTS.values() for row in part)]
    chosen = [row for row in rows if row.name.startswith(arguments.only)]
    if not chosen:
        sys.exit(f"no row begins with {arguments.only!r}; there are {', '.join(row.name for row in rows)}")
    began = time.monotonic()
    load, _, _ = os.getloadavg()
    results = run(chosen, arguments)
    print(page.table(results))
    for result in results:
        if result.profile:
            print(f"\n{result.row.name}\n" + "\n".join(result.profile))
    seconds = time.monotonic() - began
    if not arguments.only:
        page.write([result for result in results if result.row in ROWS], load, seconds, quick=arguments.quick)
    for name, (part, packages) in PARTS.items():
        of_part = [result for result in results if result.row in part]
        if len(of_part) == len(part):
            page.write_part(name, packages, of_part, load, seconds, quick=arguments.quick)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Torpor beside its alternatives.")
    parser.add_argument("--only", default="", help="only the rows whose names begin with this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that everything works")
    parser.add_argument("--profile", action="store_true", help="show where the time goes, also if the goals are met")
    return parser.parse_args()


def run(rows: Sequence[Row], arguments: argparse.Namespace) -> list[Result]:
    """Measure rows on servers of their own; a row that misses its goal runs once more under a profile."""
    with _servers(quick=arguments.quick) as bench:
        return [_measured(bench, row, arguments) for row in rows]


def _measured(bench: Bench, row: Row, arguments: argparse.Namespace) -> Result:
    began = time.monotonic()
    _tell(f"{row.name}: {row.figure}, {row.unit}")
    result = measure(bench, row, 2 if arguments.quick else arguments.rounds, lambda line: _tell(f"  {line}"))
    if row.profiled and (arguments.profile or result.missed):
        result = replace(result, profile=profile(bench, row))
    _tell(f"  {time.monotonic() - began:.1f} s")
    return result


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _servers(*, quick: bool) -> Iterator[Bench]:
    """A redis-server and an emulator of Cloud Storage, in a folder that is deleted afterwards."""
    in_memory = Path("/dev/shm")  # fsync costs nothing there
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as name:
        folder = Path(name)
        server = footprint.start_empty(folder)
        try:
            with storage_emulator(folder) as emulator, server.client() as admin:
                # A session that seems as old as the server costs the worker another listing.
                wait_until(lambda: SessionStore(admin).rewound_before() < time.time() * 1_000_000 - 1_000_000)
                yield Bench(server, emulator, folder, quick)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
