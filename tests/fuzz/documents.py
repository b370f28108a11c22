"""Damaged and hostile documents: orders, receipts and inventories of purges, owner markers, and the identity."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from fuzz.objects import Damage, changed_bytes, deep, descriptions, links, metadata, times, value
from support.identity import bind
from torpor.worker.deployment import fence
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import inventory, orders
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.erasure.survey import survey
from torpor.worker.sleep.attempt import archive_session

OWNER = "bea"
# Of each two purges, the documents of the first one are damaged.
FINISHED = ["bad-finished", "sound-finished"]
OPEN = ["bad-open", "sound-open"]

# What is damaged in each kind, as a pattern of names below the archive's folder.
_PLACES = {
    "orders": ["v1/orders/bad-open.json"],
    "receipts": ["v1/receipts/bad-finished/receipt.json"],
    "inventories": ["v1/receipts/bad-finished/000001.jsonl.gz", "v1/receipts/bad-open/000001.jsonl.gz"],
    "identities": ["v1/identity/000001.json"],
    "markers": [f"v1/owners/*/{OWNER}/owned/*[0-9]"],
}


def set_up(services: Services, said: list[bytes]) -> None:
    """Two finished purges, two open ones, of which the first has an inventory, an owner's session, and the fence."""
    bind(services)
    fence.claim(services.sessions, services.archive)
    for session_id in ("owned", *FINISHED, *OPEN):
        services.sessions.append(session_id, said, owner=OWNER)
        archive_session(services, session_id)
    for each in FINISHED:
        purge(services, Order.of(session=each, id=each, requested_by="dpo", reason="request 17"))
    for each in OPEN:
        orders.place(services, Order.of(session=each, id=each))
    with ThreadPoolExecutor(1) as pool:
        [found] = survey(services, pool, OPEN[:1], Order.of(session=OPEN[0]))
    inventory.write(services, OPEN[0], 1, [found.found])


def _places(made: Any) -> list[tuple[Any, Any]]:
    """Each value in JSON, as what contains it and its key or position."""
    here = list(made.items()) if isinstance(made, dict) else list(enumerate(made)) if isinstance(made, list) else []
    return [(made, key) for key, _ in here] + [place for _, each in here for place in _places(each)]


def _fields(rng: Random, text: bytes) -> bytes:
    """Other values, or none, in any field: ids, counts, times, wrong types."""
    made = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        if places := _places(made):
            inside, key = rng.choice(places)
            if rng.random() < 0.2:
                del inside[key]
            else:
                inside[key] = value(rng)
    if rng.random() < 0.2:
        made["more"] = value(rng)
    return json.dumps(made).encode()


def _nested(rng: Random, text: bytes) -> bytes:
    made = json.loads(text)
    inside, key = rng.choice([*_places(made), (made, "more")])
    inside[key] = "NESTED"
    return rng.choice([json.dumps(made).replace('"NESTED"', deep(rng)).encode(), deep(rng).encode()])


def _lengths(rng: Random, text: bytes) -> bytes:
    """Long texts and numbers, and many values, in any field or after the end."""
    many = rng.choice([1_000, 60_000, 300_000])
    long = rng.choice(
        [
            '"' + "x" * many + '"',
            "9" * rng.choice([30, 400, 4_000, 5_000]),
            "[" + "[]," * (many // 3) + "0]",
            "[" + "{}," * (many // 3) + "0]",
            "{" + ",".join(f'"{each}":1' for each in range(many // 10)) + "}",
        ]
    )
    made = json.loads(text)
    inside, key = rng.choice([*_places(made), (made, "more")])
    inside[key] = "LONG"
    return rng.choice([json.dumps(made).replace('"LONG"', long).encode(), text + b" " * many, text * 2])


def _others(rng: Random, text: bytes) -> bytes:
    """No document at all."""
    return rng.choice(
        [
            b"",
            rng.randbytes(200),
            json.dumps(value(rng)).encode(),
            text.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + text,
            b'{"purge": NaN}',
            text.replace(b'"', b"'"),
        ]
    )


_TEXTS: list[Callable[[Random, bytes], bytes]] = [
    lambda rng, text: changed_bytes(rng, text, len(text)),
    *(_fields, _fields, _fields, _nested, _lengths, _others),
]


def _content(rng: Random, path: Path) -> None:
    """Other content: of an inventory the lines, or what they are packed in."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        path.write_bytes(rng.choice(_TEXTS)(rng, content))
        return
    if rng.random() < 0.3:
        path.write_bytes(changed_bytes(rng, content, len(content)))
        return
    line = rng.choice(_TEXTS)(rng, gzip.decompress(content))
    path.write_bytes(gzip.compress(line * rng.choice([1, 1, 1, 3]), 1, mtime=0))


def _beside(rng: Random, path: Path) -> None:
    """Names that are nearly Torpor's, beside the sound object."""
    name = rng.choice(
        [
            *("000000.json", "000002.json", "999999.json", "0000003.json", "notes.txt", "1_0000.json", ".json", "-1"),
            *("receipt.json", "a b.json", "000009.jsonl.gz", "9" * 25, "x" * 200 + ".json", "000001.removed", "listed"),
        ]
    )
    folder = rng.choice([path.parent, path.parent / "more", path.parent.parent])
    folder.mkdir(exist_ok=True)
    if not (folder / name).exists():
        (folder / name).write_bytes(rng.choice([b"", b"{}", rng.randbytes(100), path.read_bytes()]))


def _damage(kind: str) -> Damage:
    def damage(rng: Random, root: Path) -> None:
        [path] = root.glob(rng.choice(_PLACES[kind]))
        act = rng.choice([*[_content] * 8, metadata, metadata, times, descriptions, links, _beside])
        if act is _content and kind == "markers":
            act = rng.choice([metadata, times, descriptions])  # nobody reads a marker's content
        act(rng, path)

    return damage


# Each damages one of the documents of `set_up` in the archive's folder.
DOCUMENTS: dict[str, Damage] = {kind: _damage(kind) for kind in _PLACES}
