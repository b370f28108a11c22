"""Damaged and hostile elements of a session's list, as another program might write them to Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.objects import deep, value
from torpor.history.compression import Compression, to_stored

MESSAGE: dict[str, Any] = {
    "type": "ai",
    "data": {"content": "hi", "tool_calls": [], "id": "1", "additional_kwargs": {}},
}
ITEM: dict[str, Any] = {"role": "user", "content": [{"type": "input_text", "text": "hi"}]}
CALL: dict[str, Any] = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"}

Make = Callable[[Random], bytes]


def noise(rng: Random) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 10, 1_000]))


def cut(rng: Random) -> bytes:
    """The JSON of a message, cut off or with other bytes."""
    text = bytearray(json.dumps(rng.choice([MESSAGE, ITEM, CALL])).encode())
    at = rng.randrange(len(text))
    if rng.random() < 0.5:
        del text[at:]
    else:
        text[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return bytes(text)


def nested(rng: Random) -> bytes:
    """Deep JSON, alone or in a message."""
    inside: str = deep(rng)
    forms = [
        inside,
        f'{{"type":"human","data":{{"content":"x","additional_kwargs":{inside}}}}}',
        f'{{"type":"ai","data":{{"content":"x","tool_calls":[{{"name":"f","args":{inside},"id":"1"}}]}}}}',
        f'{{"type":"human","data":{{"content":[{{"type":"text","text":"x","more":{inside}}}]}}}}',
        f'{{"role":"user","content":{inside}}}',
    ]
    return rng.choice(forms).encode()


def shapes(rng: Random) -> bytes:
    """A message or an item with values of other types."""
    made = json.loads(json.dumps(rng.choice([MESSAGE, ITEM, CALL])))
    for _ in range(rng.randint(1, 3)):
        place = made["data"] if isinstance(made.get("data"), dict) and rng.random() < 0.7 else made
        place[rng.choice([*place, "name", "extra", "content_blocks", "lc_kwargs"])] = value(rng)
    return json.dumps(made).encode()


def sizes(rng: Random) -> bytes:
    """A long text, many brackets, a long number, many keys."""
    many = rng.choice([1_000, 100_000, 1_000_000])
    return rng.choice(
        [
            json.dumps({"type": "human", "data": {"content": "x" * many}}).encode(),
            b"[" + b"[]," * (many // 10) + b"0]",
            b'{"type":"human","data":{"content":"x","n":%b}}' % (b"9" * rng.choice([100, 4_300, 5_000])),
            b'"' * rng.choice([1, 1_000]),
            b"[" * (many // 10),
            b'{"a":' * (many // 100),
        ]
    )


def characters(rng: Random) -> bytes:
    """Control characters, marks of direction, halves of characters, bytes that are no UTF-8."""
    text = "".join(chr(rng.choice([0, 7, 27, 0x9B, 0x202E, 0x2066, 0xD800, 0xDFFF, 0xFEFF, 0x2028])) for _ in range(20))
    made = {"type": "human", "data": {"content": text, "name": text}}
    return (
        json.dumps(made).encode()
        if rng.random() < 0.7
        else json.dumps(made, ensure_ascii=False).encode(errors="replace")
    )


def others(rng: Random) -> bytes:
    """What other programs keep in lists: a task, a plain value, two documents."""
    return rng.choice(
        [
            b'{"body": "W10=", "content-type": "application/json", "headers": {"task": "t"}, "properties": {}}',
            json.dumps({**MESSAGE, "body": "", "headers": {}, "properties": {}}).encode(),
            json.dumps(value(rng)).encode(),
            b"{} {}",
            b"NaN",
            b'{"type":"human","type":"ai","data":{"content":"x"}}',
        ]
    )


def frames(rng: Random) -> bytes:
    """A compressed element, perhaps with other bytes, or with another length in its header."""
    [stored] = to_stored([rng.choice([cut, shapes, sizes])(rng)], Compression.ZSTD)
    frame = bytearray(stored[:1_000_000])
    for _ in range(rng.choice([0, 1, 3])):
        if len(frame) > 1:
            frame[rng.randrange(min(len(frame), 40))] = rng.randrange(256)
    return bytes([rng.choice([0x80, 0x81, 0x81, 0x81, 0x82, 0x9F]), *frame[1:]])


ELEMENTS: dict[str, Make] = {
    each.__name__: each for each in (noise, cut, nested, shapes, sizes, characters, others, frames)
}
