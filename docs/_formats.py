# ruff: noqa: INP001 - beside the hook of mkdocs, not in a package
"""The tables of what each format keeps, converts and refuses, from the elements that tests/captured/ has."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_TRANSFER = "tests/integration/worker/transfer"
# Format -> what its package reads in a test after an adoption, a sleep, and a return.
READ_BACK = {
    "memorystore": f"the package: `{_TRANSFER}/test_published_package.py`",
    "community": "the package: `tests/readers/test_community.py`",
    "langchain-js": "@langchain/redis 1.1.2 and, over Upstash's protocol, @langchain/community 1.1.29: "
    f"`{_TRANSFER}/test_langchain_js_itself.py`",
    "langchain-redis": "does not go back",
    "llamaindex": "llama-index-core 0.14.25: `tests/readers/test_llama_index.py`",
    "openai-agents": f"the package: `{_TRANSFER}/test_returns.py`",
}


def kinds_table() -> str:
    """LangChain.js's kinds of messages: whether each version's bytes are kept, converted, or can't go back."""
    from torpor.history.errors import MessageCorrupt
    from torpor.history.protocol import FORMATS

    layout = FORMATS["langchain-js"]
    files = sorted((ROOT / "tests" / "captured" / "langchain-js").glob("core-*.json"), reverse=True)
    versions = [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def told(element: str | None) -> str:
        if element is None:
            return "not written"
        taken = layout.take(element.encode())
        if taken is None:
            return "refused"
        way = f"converted ({taken.converted})" if taken.converted else "kept"
        try:
            exact = layout.give(taken.element) == element.encode()
        except MessageCorrupt:
            return f"{way}; does not go back"
        return way if exact else f"{way}; goes back as another element"

    heads = ["@langchain/core " + each["packages"]["@langchain/core"] for each in versions]
    names = list(dict.fromkeys(name for each in versions for name in each["elements"]))
    rows = [[name, *(told(each["elements"].get(name)) for each in versions)] for name in names]
    kept = [row for row in rows if set(row[1:]) == {"kept"}]
    rows = [row for row in rows if row not in kept] + [[f"{len(kept)} other kinds", *["kept"] * len(heads)]]
    lines = [["LangChain.js has written", *heads], ["---"] * (len(heads) + 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def formats_table() -> str:
    """For each format and package: how many kinds of messages are kept, are converted, go back, or can't be adopted."""
    counts = ["kinds", "kept", "converted", "not adopted", "back byte for byte", "not back"]
    heads = ["format", "written by", *counts, "read back by"]
    lines = [heads, ["---"] * len(heads), *_rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _rows() -> Iterator[list[str]]:
    from torpor.history.protocol import FORMATS

    for name, layout in FORMATS.items():
        for packages, elements in _written(name):
            counts: Counter[str] = Counter()
            named: dict[str, list[str]] = {"not adopted": [], "not back": []}
            for kind, element in elements.items():
                _count(layout, kind, element, counts, named)
            back = str(counts["back"]) if layout.gives else "none"
            ways = [f"{len(each)}: {', '.join(each)}" if each else "none" for each in named.values()]
            cells = [str(len(elements)), str(counts["kept"]), str(counts["converted"]), ways[0], back, ways[1]]
            yield [f"`{name}`", packages, *cells, READ_BACK[name]]


def _count(layout: Any, kind: str, element: bytes, counts: Counter[str], named: dict[str, list[str]]) -> None:
    from torpor.history.errors import MessageCorrupt

    taken = layout.take(element)
    if taken is None:
        named["not adopted"].append(kind)
        return
    counts["converted" if taken.converted else "kept"] += 1
    try:
        counts["back"] += layout.give(taken.element) == element
    except MessageCorrupt:
        if layout.gives:
            named["not back"].append(kind)


def _written(name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The packages of a format, each with an element of each kind."""
    folder = ROOT / "tests" / "captured" / name
    for file in sorted(folder.glob("*.json"), reverse=True):
        value = json.loads(file.read_text(encoding="utf-8"))
        packages = ", ".join(f"{package} {version}" for package, version in value["packages"].items())
        yield packages, {kind: element.encode() for kind, element in value["elements"].items()}
    if folder.exists():
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from langchain_core.messages import message_to_dict

    from support.agent_items import ITEMS
    from support.said_in_python import SAID

    if name == "openai-agents":
        yield "openai-agents 0.24.0", {str(number): json.dumps(each).encode() for number, each in enumerate(ITEMS)}
    else:
        packages = {"memorystore": "langchain-google-memorystore-redis 0.3.0", "community": "langchain-community 0.4.2"}
        yield packages[name], {kind: json.dumps(message_to_dict(each)).encode() for kind, each in SAID.items()}
