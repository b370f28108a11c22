"""Makes a dictionary of history/compression.py, the same one each time, and measures the newest one.

    python -m dictionary make FILE               make dictionary VERSION=2
    python -m dictionary measure FILE            FILE has lines as `torpor import` reads them; its messages as Redis
                                                 has them, and its segments by gzip and by Zstandard

A dictionary that a release has had stays as it is for ever, because sessions were compressed with it: a better one gets
the next number.
"""

# ruff: noqa: T201 - a program prints its results

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from gzip import decompress
from itertools import product
from pathlib import Path
from time import process_time

import zstandard

from dictionary.samples import Samples
from torpor.history import compression
from torpor.history.compression import DICTIONARY, Compression, to_stored
from torpor.worker.archive.segment import pack
from torpor.worker.transfer.json_lines import Conversation, read_conversations

_BYTES = 8 * 1024
_SAMPLES = 12_000


def make() -> bytes:
    """The dictionary: what the samples share, and tables of the letters that they don't."""
    return zstandard.train_dictionary(_BYTES, list(Samples(1).some(_SAMPLES)), level=3).as_bytes()


def measure(file: Path) -> str:
    """How small the messages of a file get, and the segments of its sessions."""
    conversations = list(read_conversations(file))
    elements = [element for conversation in conversations for element in conversation.elements]
    plain, stored = (sum(map(len, each)) for each in (elements, to_stored(elements, Compression.ZSTD)))
    messages = f"{len(elements):,} messages: {plain:,} bytes, compressed {stored:,}: {stored / plain:.3f}"
    return "\n".join([messages, *_segments([_gzip(each) for each in conversations])])


def _gzip(conversation: Conversation) -> bytes:
    """The segment of a session that is archived as a whole."""
    at_ms = 1_764_547_200_000
    with pack(conversation.session_id, 1000 * at_ms, 0, at_ms, [conversation.elements]).body as body:
        return body.read()


def _segments(zipped: Sequence[bytes]) -> list[str]:
    """The bytes of segments as they are, and how many Zstandard would take, with the dictionary and without."""
    lines, total = [decompress(each) for each in zipped], sum(map(len, zipped))
    dictionary = compression._dictionary(DICTIONARY).as_bytes()
    told = [f"{len(lines):,} segments: {sum(map(len, lines)):,} bytes, by gzip {total:,}"]
    for level, with_dictionary in product((1, 3, 6, 9), (True, False)):
        shared = zstandard.ZstdCompressionDict(dictionary) if with_dictionary else None
        if shared:
            shared.precompute_compress(level=level)
        size, each_us = _timed(zstandard.ZstdCompressor(level=level, dict_data=shared).compress, lines)
        name = f"Zstandard {level}, {'with' if with_dictionary else 'without'} the dictionary"
        told.append(f"  {name}: {size:,} bytes, {size / total:.3f} of gzip's, {each_us:.0f} µs each")
    return told


def _timed(compress: Callable[[bytes], bytes], texts: Sequence[bytes]) -> tuple[int, float]:
    """The bytes of all texts when they are compressed, and the CPU time for each (µs)."""
    began = process_time()
    size = sum(len(compress(each)) for each in texts)
    return size, 1_000_000 * (process_time() - began) / len(texts)


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
