"""The fuzz: damaged and hostile objects and elements, through everything that reads them.

    PYTHONPATH=.:tests python -m fuzz --cases 10000 --seed 7          make fuzz CASES=10000

Each case damages the object of a session that sleeps, or puts an element into a session in Redis and into lists of
other libraries; its sizes are bounded. Then restore, show, export, purge, doctor, expire, adopt, return and archive run
over it. Nothing may crash, hang or take more than 16 MiB, and a sound session beside it must stay as it is. The last
lines say how many cases of each kind there were; the exit code is 1 if one went wrong. The seed repeats them all, and
`--only "object: links" --number 17` one.
"""

# ruff: noqa: T201 - a program prints its progress

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuzz.harness import BUCKET, FOLDER, KINDS, MIB, STORES, Wrong, harness, quiet
from support.emulator import storage_emulator
from support.servers import start_redis

# Every tenth round over the kinds reads from a bucket, which is slower.
_BUCKET_EVERY = 10


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Read damaged and hostile objects and elements.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--number", type=int)
    parser.add_argument("--store", choices=STORES, help="Read all cases from this store.")
    options = parser.parse_args(given)
    print(f"seed {options.seed}", flush=True)
    in_memory = Path("/dev/shm")
    done: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    with (
        tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder,
        storage_emulator(Path(folder)) as emulator,
        quiet(),
    ):
        server = start_redis(Path(folder))
        with server.client() as client:
            cases = harness(client, Path(folder) / "archive", server.settings, emulator)
            for store in STORES:
                cases.warm_up(store)
            for number in range(options.cases) if options.number is None else [options.number]:
                kind = options.only or KINDS[number % len(KINDS)]
                on_bucket = number // len(KINDS) % _BUCKET_EVERY == _BUCKET_EVERY - 1
                store = options.store or (BUCKET if on_bucket else FOLDER)
                try:
                    cases.run(kind, random.Random(f"{options.seed} {number}"), store)
                except Wrong as error:
                    wrong.append(f"case {number}: {error}")
                    print(wrong[-1], flush=True)
                    if options.number is not None:
                        traceback.print_exc()
                done[kind, store] += 1
                if done.total() % 500 == 0:
                    print(f"{done.total():,} cases", flush=True)
        server.stop()
    for (kind, store), count in sorted(done.items()):
        print(f"{count:6,}  {kind}, in a {store}")
    print(
        f"{done.total():6,}  cases, {len(wrong)} wrong; slowest step {cases.slowest:.1f} s, "
        f"most memory added {cases.largest / MIB:.1f} MiB"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
