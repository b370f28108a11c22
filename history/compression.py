"""How Redis has an element: as it is, or compressed. Both forms stand in one list.

    0x80                        the element itself follows, which begins with one of these bytes (0x80 to 0x9F)
    0x80 + version (1 to 31)    a Zstandard frame follows, without its magic number, with the length of its content

The version is that of the dictionary with which it was compressed. No JSON begins with such a byte, nor does a record
of a LangGraph thread. What can't be read as such a frame is an element itself, which is damaged.
Source: https://www.rfc-editor.org/rfc/rfc8878
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final

import zstandard

from torpor.history.elements import is_record
from torpor.history.errors import DictionaryUnknown

# The newest dictionary; it compresses, and all of them are read. They have no user's text, because that could not be
# erased: tests/dictionary makes them from the project's own.
DICTIONARY: Final = 1

_PLAIN = 0x80
_LAST = 0x9F
_MARK = bytes([_PLAIN + DICTIONARY])
_MAGIC = b"\x28\xb5\x2f\xfd"
# How the header of a frame of one segment begins -> the bytes in which it has the length of the content, and what is to
# be added to that number. lua/lib/page.lua reads it too.
_LENGTHS = {0x20: (1, 0), 0x60: (2, 256), 0xA0: (4, 0)}
# Any marked element is above the first of these, and compressed ones of up to 64 KiB begin with one of the others.
_MARKED = bytes([_PLAIN])
_USUAL = {_MARK + b"\x20", _MARK + b"\x60"}
# A longer element stays as it is: most are files in base64, which get little smaller, and reading needs bounded memory.
_LONGEST = 512 * 1024
# From level 5 on, Zstandard gives a long message its own table of letters in place of the dictionary's. That saves a
# tenth of its bytes, and takes three times as long to write and to read.
_LEVEL = 3


class Compression(StrEnum):
    """Whether a deployment has the elements of chats compressed when they are written."""

    NONE = "none"
    ZSTD = "zstd"


def to_stored(elements: Iterable[bytes], compression: Compression) -> list[bytes]:
    """Elements as Redis shall have them; the ones that would not get smaller stay as they are."""
    given = list(elements)
    if compression is Compression.NONE and max(given, default=b"") < _MARKED:
        return given
    return [_stored(element, compression) for element in given]


def from_stored(stored: list[bytes]) -> list[bytes]:
    """The elements that Redis has; raises DictionaryUnknown."""
    if max(stored, default=b"") < _MARKED:
        return stored
    decompress = _tools.decompressors[DICTIONARY].decompress
    elements = []
    for each in stored:
        if each[:2] in _USUAL and len(each) <= _LONGEST:  # nearly all, so it is done without a call
            try:
                elements.append(decompress(_MAGIC + each[1:], 0, False, False) or each)
            except zstandard.ZstdError:
                elements.append(each)
        else:
            elements.append(_element(each) if _is_marked(each) else each)
    return elements


def repacked(stored: bytes, compression: Compression) -> bytes | None:
    """The stored form of the same element by a setting, or `stored` itself if it has that form; None if it is damaged.

    Raises DictionaryUnknown.
    """
    [element] = from_stored([stored])
    if _is_marked(element):
        return None
    if compression is Compression.ZSTD and stored[:1] == _MARK:
        return stored
    return _stored(element, compression)


def check_dictionary(version: int) -> None:
    """Raise DictionaryUnknown if a deployment has a newer dictionary than this version of Torpor."""
    if version > DICTIONARY:
        raise DictionaryUnknown(
            f"the deployment compresses with dictionary {version}, and this version of Torpor knows up to "
            f"{DICTIONARY}: upgrade it"
        )


class _Tools(threading.local):
    """The compressor and the decompressors of a thread: none may be used by two threads at once."""

    def __init__(self) -> None:
        dictionary = _dictionary(DICTIONARY)
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=dictionary, write_dict_id=False)
        self.decompressors = {
            version: zstandard.ZstdDecompressor(dict_data=_dictionary(version)) for version in range(1, DICTIONARY + 1)
        }
        for each in self.decompressors.values():
            each.decompress(
                zstandard.compress(b"0")
            )  # the dictionary is made ready here, so an error of that is raised


@cache
def _dictionary(version: int) -> zstandard.ZstdCompressionDict:
    """A dictionary, digested once for all threads."""
    stored = files(__package__) / "dictionaries" / f"{version}.zdict"
    dictionary = zstandard.ZstdCompressionDict(stored.read_bytes())
    dictionary.precompute_compress(level=_LEVEL)
    return dictionary


_tools = _Tools()


def _stored(element: bytes, compression: Compression) -> bytes:
    if _is_marked(element):
        return bytes([_PLAIN]) + element
    if compression is Compression.NONE or len(element) > _LONGEST or is_record(element):
        return element
    frame = _tools.compressor.compress(element)
    packed = _MARK + frame[len(_MAGIC) :]
    return packed if len(packed) < len(element) and (packed[:2] in _USUAL or _is_frame(packed)) else element


def _is_marked(element: bytes) -> bool:
    return bool(element) and _PLAIN <= element[0] <= _LAST


def _element(stored: bytes) -> bytes:
    if stored[0] == _PLAIN:
        return stored[1:] if _is_marked(stored[1:2]) else stored
    if not _is_frame(stored):
        return stored
    version = stored[0] - _PLAIN
    check_dictionary(version)
    try:
        return _tools.decompressors[version].decompress(_MAGIC + stored[1:], allow_extra_data=False)
    except zstandard.ZstdError:  # what `to_stored` has not made
        return stored


def _is_frame(stored: bytes) -> bool:
    """True if `to_stored` may have made it, by its header. Memory is taken for the length that the header gives.

    The library does not look at what follows a length of 0.
    """
    size, more = _LENGTHS.get(stored[1] if len(stored) > 1 else 0, (0, 0))
    length = int.from_bytes(stored[2 : 2 + size], "little") + more
    return 0 < length <= _LONGEST and len(stored) <= _LONGEST
