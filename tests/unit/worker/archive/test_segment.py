"""Segment bytes: messages come back as they were packed, or an error is raised."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import io
import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torpor.history.protocol import MAX_MESSAGE_BYTES, is_record
from torpor.worker.archive import segment
from torpor.worker.archive.names import SegmentName
from torpor.worker.archive.segment import Packed, is_plain
from torpor.worker.errors import SegmentDamaged

MESSAGES = [
    b'{"type":"human","data":{"content":"Wie geht\'s? \xf0\x9f\x98\x80"}}',
    b'{"type":"ai","data":{"content":"gut"}}',
    b"\xff\xfe not UTF-8",
    b'{"type":"ai","data":{"content":"two\\nlines"}}',
]
ELEMENTS = [
    b"",
    b"{}",
    b"null",
    b' {"a": 1 } ',
    b'{"a":1,"a":2}',
    b"1e999",
    b'{"n":123456789012345678901234567890}',
    b"NaN",
    b'{"x":NaN}',
    b"[Infinity]",
    b'"\\ud800"',
    b'{"a":\n1}',
    b'{"a":1}\n',
    b'{"a":1}\r',
    b"\n",
    b"\x00",
    b"\xff",
    "\N{BYTE ORDER MARK}{}".encode(),
    '"\N{LINE SEPARATOR}"'.encode(),
    b'1},"raw":"AA=="}',
    b'{"session_id":"t","epoch":1,"seq":0}',
    b"not JSON",
    b"[" * 2_000 + b"]" * 2_000,
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
elements = (
    st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()) | st.sampled_from(ELEMENTS)
)
session_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def pack(messages: list[bytes], session_id: str = "s", epoch: int = 17, start: int = 3) -> tuple[Packed, bytes]:
    packed = segment.pack(session_id, epoch, start, 1_700_000_000_123, [messages])
    with packed.body:
        return packed, packed.body.read()


def unpacked(name: SegmentName, sha256: str | None, body: BinaryIO, session_id: str = "s") -> list[bytes]:
    return [*chain.from_iterable(segment.unpack(session_id, name, sha256, body, MAX_MESSAGE_BYTES))]


def unpack(packed: Packed, data: bytes, session_id: str = "s") -> list[bytes]:
    return unpacked(packed.name, packed.sha256, io.BytesIO(data), session_id)


@given(session_id=session_ids, epoch=st.integers(0, 2**53), start=st.integers(0, 10**6), messages=st.lists(elements))
@example(session_id='q"\\\n{}', epoch=1, start=0, messages=ELEMENTS)
def test_every_element_comes_back_byte_for_byte(session_id: str, epoch: int, start: int, messages: list[bytes]) -> None:
    packed, data = pack(messages, session_id, epoch, start)
    assert unpack(packed, data, session_id) == messages
    assert packed.name == SegmentName(epoch, start, start + len(messages), packed.sha256[:8])
    assert (packed.count, packed.size) == (len(messages), len(data))
    assert packed.sha256 == hashlib.sha256(gzip.decompress(data)).hexdigest()


@given(session_id=session_ids, messages=st.lists(elements, max_size=5))
@example(session_id="s", messages=ELEMENTS)
@example(session_id="s", messages=[b"\x01"])
def test_each_line_is_json_of_five_members_that_hold_the_element(session_id: str, messages: list[bytes]) -> None:
    _, data = pack(messages, session_id, 17, 3)
    lines = gzip.decompress(data).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(messages)
    for number, (text, element) in enumerate(zip(lines, messages, strict=True)):
        if is_plain(element):
            assert text.endswith(b',"message":' + element + b"}")
            line = json.loads(text)
            assert list(line) == ["session_id", "epoch", "seq", "at", "message"]
        else:
            line = json.loads(text)
            assert list(line) == [
                "session_id",
                "epoch",
                "seq",
                "at",
                *(["record"] if is_record(element) else []),
                "raw",
            ]
            assert base64.b64decode(line["raw"]) == element
        described = (line["session_id"], line["epoch"], line["seq"], line["at"])
        assert described == (session_id, 17, 3 + number, 1_700_000_000_123)


@pytest.mark.parametrize("element", [b"", b"NaN", b'{"x":Infinity}', b"\xff", b'{"a":\n1}', b"{}\r", b"{} {}", b"'a'"])
def test_what_is_not_strict_json_on_one_line_is_kept_raw(element: bytes) -> None:
    assert not is_plain(element)
    _, data = pack([element])
    assert json.loads(gzip.decompress(data))["raw"] == base64.b64encode(element).decode()


def test_the_same_messages_give_the_same_bytes_with_no_time_or_name_in_them() -> None:
    _, first = pack(MESSAGES)
    _, second = pack(list(MESSAGES))
    assert first == second
    magic, method, flags, mtime = first[:2], first[2], first[3], first[4:8]
    assert (magic, method, flags, mtime) == (b"\x1f\x8b", 8, 0, b"\0\0\0\0")
    for other in (pack(MESSAGES, "t"), pack(MESSAGES, epoch=18), pack(MESSAGES, start=4), pack(MESSAGES[:-1])):
        assert other[1] != first
        assert other[0].name.digest != pack(MESSAGES)[0].name.digest


def test_gzip_of_the_command_line_reads_a_segment() -> None:
    _, data = pack(MESSAGES)
    plain = subprocess.run(["gzip", "-dc"], input=data, capture_output=True, check=True).stdout
    assert plain == gzip.decompress(data)
    assert [json.loads(line)["seq"] for line in plain.splitlines()] == [3, 4, 5, 6]


def damaged(packed: Packed, data: bytes) -> str | None:
    """What unpack says of the bytes; None: nothing, and the messages are the right ones."""
    came: list[bytes] = []
    try:
        for page in segment.unpack("s", packed.name, packed.sha256, io.BytesIO(data), MAX_MESSAGE_BYTES):
            came += page
    except SegmentDamaged as exc:
        return str(exc)
    assert came == MESSAGES
    return None


def test_a_truncated_segment_is_damaged_wherever_it_ends() -> None:
    packed, data = pack(MESSAGES)
    for length in range(len(data)):
        assert damaged(packed, data[:length]), f"{length} of {len(data)} bytes"


def test_no_flipped_bit_gives_another_message() -> None:
    packed, data = pack(MESSAGES)
    harmless = set()
    for position in range(len(data)):
        for bit in range(8):
            flipped = data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
            if damaged(packed, flipped) is None:
                harmless.add(position)
    # Header bytes that do not describe the content (flags, mtime, system), and the padding after the last block.
    assert harmless <= {3, 4, 5, 6, 7, 8, 9, len(data) - 9}


def test_a_flipped_bit_in_a_large_segment_is_found() -> None:
    rng = random.Random(7)
    messages = [json.dumps({"content": rng.randbytes(200).hex()}).encode() for _ in range(2_000)]
    packed, data = pack(messages)
    for position in range(20, len(data), len(data) // 50):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(SegmentDamaged):
            unpack(packed, bytes(flipped))


def rewritten(packed: Packed, lines: list[bytes]) -> tuple[Packed, bytes]:
    """A segment with other lines and the digests that go with them, under the same range."""
    plain = b"".join(lines)
    digest = hashlib.sha256(plain).hexdigest()
    name = replace(packed.name, digest=digest[:8])
    return replace(packed, name=name, sha256=digest), gzip.compress(plain, mtime=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], "ends after message 5, not 6"),
        (lambda lines: [], "ends after message 2, not 6"),
        (lambda lines: lines[1:], "line 1 is not message 3"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 is not message 4"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 is not message 3"),
        (lambda lines: [*lines, lines[-1]], "line 5 is not message 7"),
        (lambda lines: [*lines, lines[-1].replace(b'"seq":6', b'"seq":7')], "ends after message 7, not 6"),
        (lambda lines: [*lines, b"{}\n"], "line 5 is not message 7"),
        (lambda lines: [*lines[:-1], lines[-1].rstrip(b"\n")], "line 4 is not message 6"),
        (lambda lines: [lines[0].replace(b'"seq":3', b'"seq":' + b"3" * 5_000), *lines[1:]], "line 1 is not message 3"),
        (lambda lines: [line.replace(b'"s"', b'"t"') for line in lines], "another session or epoch"),
        (lambda lines: [line.replace(b'"epoch":17', b'"epoch":18') for line in lines], "another session or epoch"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"raw":"', b'"raw":"!'), lines[3]], "not a complete gzip file"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"raw":"', b'"raw":1"'), lines[3]], "not a complete gzip file"),
    ],
)
def test_lines_that_are_not_those_of_the_name_are_damage(change: object, said: str) -> None:
    packed, data = pack(MESSAGES)
    lines = gzip.decompress(data).splitlines(keepends=True)
    assert callable(change)
    with pytest.raises(SegmentDamaged, match=said):
        unpack(*rewritten(packed, change(lines)))


def test_a_segment_of_another_session_or_epoch_is_damage() -> None:
    packed, data = pack(MESSAGES)
    with pytest.raises(SegmentDamaged, match="another session or epoch"):
        unpacked(packed.name, packed.sha256, io.BytesIO(data), "t")
    with pytest.raises(SegmentDamaged, match="another session or epoch"):
        unpacked(replace(packed.name, epoch=18), packed.sha256, io.BytesIO(data))


def test_a_wrong_digest_is_damage() -> None:
    packed, data = pack(MESSAGES)
    with pytest.raises(SegmentDamaged, match="another SHA-256"):
        unpacked(replace(packed.name, digest="00000000"), None, io.BytesIO(data))
    with pytest.raises(SegmentDamaged, match="another SHA-256"):
        unpacked(packed.name, "0" * 64, io.BytesIO(data))
    assert unpacked(packed.name, None, io.BytesIO(data)) == MESSAGES


@pytest.mark.parametrize(
    "tail", [b"\x01", b"garbage", gzip.compress(b"{}\n", mtime=0), gzip.compress(b"", mtime=0)[:-1]]
)
def test_bytes_after_the_end_are_damage(tail: bytes) -> None:
    packed, data = pack(MESSAGES)
    with pytest.raises(SegmentDamaged):
        unpack(packed, data + tail)


@given(data=st.binary(max_size=200))
@example(data=gzip.compress(b"\n"))
@example(data=gzip.compress(b"null\n"))
def test_bytes_that_are_no_segment_are_damage(data: bytes) -> None:
    packed, _ = pack(MESSAGES)
    with pytest.raises(SegmentDamaged):
        unpack(packed, data)


def incompressible(count: int) -> list[bytes]:
    rng = random.Random(1)
    return [b'"%b"' % binascii.b2a_base64(rng.randbytes(75_000), newline=False) for _ in range(count)]


def rolled(packed: Packed) -> bool:
    return bool(cast(Any, packed.body)._rolled)


def test_up_to_4_mib_stay_in_memory_and_more_goes_to_a_temporary_file() -> None:
    small = segment.pack("s", 1, 0, 0, [incompressible(50)])
    large = segment.pack("s", 1, 0, 0, [incompressible(70)])
    with small.body, large.body:
        assert (small.size < 4 * 1024 * 1024, rolled(small)) == (True, False)
        assert (large.size > 4 * 1024 * 1024, rolled(large)) == (True, True)
        assert large.body.tell() == 0
        read = unpacked(large.name, large.sha256, large.body)
        assert all(a == b for a, b in zip(read, incompressible(70), strict=True))


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_large_segment_that_is_given_up_leaves_no_file_open() -> None:
    def broken() -> Iterator[list[bytes]]:
        yield incompressible(70)
        raise LookupError

    before = open_files()
    with pytest.raises(LookupError) as caught:
        segment.pack("s", 1, 0, 0, broken())
    assert open_files() == before, caught
