"""Measures the list and the answer for an owner with many sessions, half of them asleep, on a real Redis and a folder.

    PYTHONPATH=tests .venv/bin/python tests/bench/access.py --sessions 10000

Compares the answer's manifest with what a purge would find. Prints the seconds, and the memory that each step added to
the peak of this process.
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.purge import fill, peak_mib
from support.compose import deployment_of
from support.identity import bind
from support.servers import start_redis
from torpor.worker.access import listing
from torpor.worker.access.answer import answer
from torpor.worker.access.manifest import Manifest
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.inventory import Tally
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import preview


def measured(what: str, act: Callable[[], int], sessions: int) -> None:
    gc.collect()
    before, began = peak_mib(), time.monotonic()
    found = act()
    assert found == sessions, (what, found)
    print(f"| {what} | {time.monotonic() - began:.1f} | {peak_mib() - before:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Answering for an owner with many sessions.")
    parser.add_argument("--sessions", type=int, default=10_000)
    sessions = parser.parse_args().sessions
    with tempfile.TemporaryDirectory() as name:
        server = start_redis(Path(name))
        try:
            services = deployment_of(server, (Path(name) / "archive").as_uri(), idle_timeout_seconds=3_600)
            bind(services)
            fill(services, 200)  # imports and connects
            copied(services, Path(name) / "first")
            fill(services, sessions)
            print("| step | seconds | MiB added to the peak |\n| --- | --- | --- |")
            measured("list", lambda: sum(map(len, listing.of_owner(services, "ann"))), sessions)
            measured("answer", lambda: copied(services, Path(name) / "answer").copied.sessions, sessions)
            manifest = Manifest.model_validate_json((Path(name) / "answer" / "manifest.json").read_bytes())
            surveyed = preview(services, Order.of(owner="ann"))
            assert sum((each.found.tally for each in surveyed), Tally()) == manifest.found
            print(f"\nThe manifest has what a purge finds: {manifest.found}")
        finally:
            server.stop()


def copied(services: Services, folder: Path) -> Manifest:
    return answer(services, "ann", folder, by="", reason="", progress=lambda _: None)


if __name__ == "__main__":
    main()
