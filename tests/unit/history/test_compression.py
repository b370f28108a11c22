"""How an element is stored, compressed or not, and read back."""

from __future__ import annotations

import hashlib
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dictionary.samples import Samples
from torpor.history import compression
from torpor.history.calls import configuration
from torpor.history.compression import DICTIONARY, Compression, check_dictionary, from_stored, repacked, to_stored
from torpor.history.errors import DictionaryUnknown

MESSAGE = b'{"type":"human","data":{"content":"Could you please tell me where my package is?"}}'
# A released dictionary never changes, because sessions were compressed with it.
DIGESTS = {1: "0b637fda705e38950a5d22c399cf781bf3f752a3d3bd6102f99747354e4c155c"}


def dictionary(version: int) -> bytes:
    return (files(compression.__package__) / "dictionaries" / f"{version}.zdict").read_bytes()


@given(st.lists(st.binary(max_size=300) | st.sampled_from([MESSAGE, b"\x80", b"\x81", b"\x9f", b"\x01" + MESSAGE])))
@pytest.mark.parametrize("how", Compression)
def test_what_is_stored_is_read_back(how: Compression, elements: list[bytes]) -> None:
    assert from_stored(to_stored(elements, how)) == elements


@given(st.lists(st.binary(max_size=300) | st.sampled_from([MESSAGE, b"\x80", b"\x81", b"\x9f", b"\x01" + MESSAGE])))
@pytest.mark.parametrize("how", Compression)
def test_an_element_in_another_form_says_the_same_and_a_damaged_one_has_none(
    how: Compression, stored: list[bytes]
) -> None:
    for each in [*stored, *to_stored(stored, Compression.ZSTD)]:
        other, [element] = repacked(each, how), from_stored([each])
        if other is None:
            assert 0x80 <= each[0] <= 0x9F
        else:
            assert from_stored([other]) == [element]
            assert other in (each, *to_stored([element], how))
            assert repacked(other, how) == other


def test_a_message_of_a_framework_gets_smaller() -> None:
    elements = list(Samples(7).some(300))
    stored = to_stored(elements, Compression.ZSTD)
    assert sum(map(len, stored)) < 0.5 * sum(map(len, elements))
    assert {each[0] for each in stored} == {0x80 + DICTIONARY}
    assert from_stored(stored) == elements


def test_without_compression_elements_stay_as_they_are() -> None:
    assert to_stored([MESSAGE, b"", b"\x01record"], Compression.NONE) == [MESSAGE, b"", b"\x01record"]


@pytest.mark.skipif(configuration.UNRECORDED is Compression.ZSTD, reason="with --compression it gets longer")
@pytest.mark.parametrize("element", [b"", b"{}", b'{"a":"' + bytes(range(128, 256)) + b'"}'])
def test_an_element_that_would_not_get_smaller_stays_as_it_is(element: bytes) -> None:
    assert to_stored([element], Compression.ZSTD) == [element]


@pytest.mark.parametrize("first", [b"\x01", b"\x02"])
def test_a_record_of_a_thread_stays_as_it_is_because_scripts_read_it(first: bytes) -> None:
    record = first + 100 * MESSAGE
    assert to_stored([record], Compression.ZSTD) == [record]


def test_up_to_512_kib_are_compressed() -> None:
    longest = b'"' + (512 * 1024 - 2) * b"a" + b'"'
    [stored] = to_stored([longest], Compression.ZSTD)
    assert len(stored) < 1_000
    assert from_stored([stored]) == [longest]
    longer = longest + b" "
    assert to_stored([longer], Compression.ZSTD) == [longer]


@pytest.mark.parametrize("how", Compression)
@pytest.mark.parametrize("first", range(0x80, 0xA0))
def test_an_element_that_looks_compressed_is_read_back(how: Compression, first: int) -> None:
    """Such an element is damaged JSON, and keeps its bytes all the same, also on its way through the archive."""
    for element in (bytes([first]), bytes([first]) + MESSAGE, to_stored([MESSAGE], Compression.ZSTD)[0]):
        stored = to_stored([element], how)
        assert stored == [b"\x80" + element]
        assert from_stored(stored) == [element]


@given(st.data())
def test_what_can_not_be_read_as_a_frame_is_a_damaged_element(data: st.DataObject) -> None:
    """It is read as its own bytes, as whatever else is no JSON."""
    [stored] = to_stored([MESSAGE], Compression.ZSTD)
    cut = data.draw(st.integers(1, len(stored) - 1))
    damaged = data.draw(st.sampled_from([stored[:cut], stored + b"\x00", stored[:1] + stored[2:]]))
    assert from_stored([damaged, stored]) == [damaged, MESSAGE]


@pytest.mark.parametrize("mark", [0x80, 0x81, 0x82, 0x9F])
@pytest.mark.parametrize("header", [b"", b"\x20\x00", b"\xa0\x00\x00\x00\x00", b"\xa0\x01\x00\x08\x00", b"\x00\x20"])
def test_what_was_never_written_so_is_an_element_itself(mark: int, header: bytes) -> None:
    """Also in a list that an older version has filled, which marked nothing."""
    element = bytes([mark]) + header + b"what a person said"
    assert from_stored([element]) == [element]


def test_a_frame_that_claims_much_takes_no_memory() -> None:
    zeros = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(300_000_000))
    hostile = bytes([0x80 + DICTIONARY]) + zeros[4:]
    claimed = hostile[:1] + b"\xa0\xff\xff\xff\x7f" + hostile[6:]
    large = hostile[:1] + b"\x20\x10" + bytes(2_000_000)
    tracemalloc.start()
    try:
        assert from_stored([hostile, claimed, large]) == [hostile, claimed, large]
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_newer_dictionary_is_told() -> None:
    newer = bytes([0x80 + DICTIONARY + 1]) + to_stored([MESSAGE], Compression.ZSTD)[0][1:]
    with pytest.raises(DictionaryUnknown, match="upgrade"):
        from_stored([newer])
    with pytest.raises(DictionaryUnknown, match="upgrade"):
        check_dictionary(DICTIONARY + 1)
    check_dictionary(DICTIONARY)


def test_threads_compress_and_read_at_the_same_time() -> None:
    elements = list(Samples(3).some(200))

    def both(_: int) -> bool:
        return from_stored(to_stored(elements, Compression.ZSTD)) == elements

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(both, range(100)))


@pytest.mark.parametrize("version", range(1, DICTIONARY + 1))
def test_a_released_dictionary_never_changes(version: int) -> None:
    assert hashlib.sha256(dictionary(version)).hexdigest() == DIGESTS[version]


def test_the_dictionary_has_only_what_the_samples_have() -> None:
    """A user's text in it could never be erased. Only where two pieces meet is it new."""
    samples = b"\n".join(Samples(1).some(12_000))
    content = dictionary(DICTIONARY)[400:]  # after the tables
    windows = {content[at : at + 8] for at in range(len(content) - 8)}
    known = windows.intersection(samples[at : at + 8] for at in range(len(samples)))
    assert len(windows) > 5_000
    assert len(known) > 0.95 * len(windows)
