"""What other libraries have written to a Redis: captured with the packages themselves, see tests/captured/."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from support.paths import TESTS


@dataclass(frozen=True)
class Captured:
    """The elements of one version, by the kind of message; `session` is one list as it stands in Redis, and
    `after_a_deletion` the same after the library has deleted its first message, if it is known; `keys`
    has the keys of the messages of the session, if each has one."""

    name: str
    packages: dict[str, str]
    elements: dict[str, bytes] = field(repr=False)
    session: list[bytes] = field(repr=False)
    after_a_deletion: list[bytes] = field(repr=False)
    keys: list[bytes] = field(repr=False)


def captured(folder: str) -> list[Captured]:
    files = sorted((TESTS / "captured" / folder).glob("*.json"))
    found = [(file.stem, json.loads(file.read_text(encoding="utf-8"))) for file in files]
    return [
        Captured(
            name,
            value["packages"],
            {kind: element.encode() for kind, element in value["elements"].items()},
            [element.encode() for element in value["list"]],
            [element.encode() for element in value.get("after_a_deletion", [])],
            [key.encode() for key in value.get("keys", [])],
        )
        for name, value in found
    ]


LANGCHAIN_JS = captured("langchain-js")
LLAMAINDEX = captured("llamaindex")
LANGCHAIN_REDIS = captured("langchain-redis")
