# ruff: noqa: INP001 - beside the hook of mkdocs, not in a package
"""The table of what each format keeps, converts and refuses, from the elements that tests/captured/ has."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
