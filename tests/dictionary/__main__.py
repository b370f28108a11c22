"""Makes a dictionary of history/compression.py: `python -m dictionary FILE`. It makes the same one each time.

A dictionary that a release has had stays as it is for ever, because sessions were compressed with it: a better one gets
the next number.
"""

from __future__ import annotations

import sys
from pathlib import Path

import zstandard

from dictionary.samples import Samples

_BYTES = 8 * 1024
_SAMPLES = 12_000


def make() -> bytes:
    """The dictionary: what the samples share, and tables of the letters that they don't."""
    return zstandard.train_dictionary(_BYTES, list(Samples(1).some(_SAMPLES)), level=3).as_bytes()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(make())
