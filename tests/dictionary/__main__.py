"""Makes a dictionary of history/compression.py, the same one each time, and measures the newest one.

    python -m dictionary make FILE               make dictionary VERSION=2
    python -m dictionary measure FILE            FILE has lines as `torpor import` reads them

A dictionary that a release has had stays as it is for ever, because sessions were compressed with it: a better one gets
the next number.
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
from pathlib import Path

import zstandard

from dictionary.samples import Samples
from torpor.history.compression import Compression, to_stored
from torpor.worker.transfer.json_lines import read_conversations

_BYTES = 8 * 1024
_SAMPLES = 12_000


def make() -> bytes:
    """The dictionary: what the samples share, and tables of the letters that they don't."""
    return zstandard.train_dictionary(_BYTES, list(Samples(1).some(_SAMPLES)), level=3).as_bytes()


def measure(file: Path) -> str:
    """How small the messages of a file get."""
    elements = [element for conversation in read_conversations(file) for element in conversation.elements]
    plain, stored = (sum(map(len, each)) for each in (elements, to_stored(elements, Compression.ZSTD)))
    return f"{len(elements):,} messages: {plain:,} bytes, compressed {stored:,}: {stored / plain:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a dictionary, or measure the newest one.")
    parser.add_argument("act", choices=["make", "measure"])
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.act == "make":
        given.file.write_bytes(make())
    else:
        print(measure(given.file))


if __name__ == "__main__":
    main()
