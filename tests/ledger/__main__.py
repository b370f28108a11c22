"""The ledger: write, sleep and wake under faults and kills, then compare each session with what was acknowledged.

    PYTHONPATH=.:tests python -m ledger --seconds 600          make ledger SECONDS=600

Writers in several processes add numbered messages to sessions with idle timeouts of 1 to 3 s, and close, clear, read
and restore some. A third of the sessions are LangGraph threads, which get numbered checkpoints and writes. Real Celery
workers and beat put them to sleep. Meanwhile processes are killed -9, at random and at failpoints, or frozen, commands
to Redis are cut or lose their reply, the broker loses its connections and all its messages, and the archive fails: one
by one, and in pairs of faults. In the end clean workers finish, every session is restored, and each acknowledged
message and record must be there once and in order; each checkpoint must have its parent's messages and its own. What
was not acknowledged may be there, once.

One worker compresses messages and the other does not, so whichever started last has set how applications write that
start next; they do so all the time, and rewrite sessions in either form. `--compression zstd` or `none` has one form.

It runs in rounds of up to 100 s, each on a Redis and an archive of its own, because a bucket of the emulator gets
slower with each object. A bucket behind a faulty proxy and a folder take turns, as many rounds each. The exit code is
1 if anything is wrong.
"""

# ruff: noqa: T201 - a program prints its progress

from __future__ import annotations

import argparse
import math
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ledger.deployment import COMPRESSIONS, Failed
from ledger.faults import Tally
from ledger.rounds import Round

_ROUND_SECONDS = 100


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill and break everything, and count every message.")
    parser.add_argument("--seconds", type=float, default=60, help="the seconds of writing, all rounds together")
    parser.add_argument("--stores", nargs="+", default=["gcs", "folder"], help="the archives of the rounds, in turn")
    parser.add_argument("--sessions", type=int, default=240)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--chance", type=float, default=0.005, help="the chance of a death at each failpoint")
    parser.add_argument("--compression", choices=COMPRESSIONS, default="mixed", help="how the workers have messages")
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options = _arguments(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    in_memory = Path("/dev/shm")
    top = Path(tempfile.mkdtemp(prefix="torpor-ledger-", dir=in_memory if in_memory.is_dir() else None))
    stores = len(options.stores)
    rounds = stores * math.ceil(options.seconds / _ROUND_SECONDS / stores)  # as many on each
    print(f"seed {options.seed}, {rounds} rounds in {top}", flush=True)
    tally, well = Tally(), True
    try:
        for number in range(rounds):
            folder = top / f"round-{number}"
            folder.mkdir()
            store = options.stores[number % stores]
            well = Round(number, store, options.seconds / rounds, options, folder, tally).run() and well
    except Failed as error:
        print(f"FAILED: {error}")
        well = False
    if well:
        shutil.rmtree(top)
    else:
        print(f"logs and archives are kept in {top}")
    print(tally, flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
