"""The page for other languages gives each argument of the scripts, and the names of their keys."""

from __future__ import annotations

import re

import pytest

from support.paths import ROOT
from torpor.history.keys import Keyspace

PAGE = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
SECTIONS = {"append": "## Appending a turn", "read": "## Reading", "info": "`info` describes"}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_has_the_arguments_of_a_script(name: str) -> None:
    head = (ROOT / "history" / "lua" / f"{name}.lua").read_text(encoding="utf-8")
    table = re.search(r"(?:^\|.*\n)+", PAGE[PAGE.index(SECTIONS[name]) :], re.MULTILINE)
    assert table
    assert re.findall(r"^\| `ARGV\[(\d+)\]`", table[0], re.MULTILINE) == re.findall(
        r"^-- ARGV\[(\d+)", head, re.MULTILINE
    )


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_has_the_keys_of_a_script_in_their_order(name: str) -> None:
    head = (ROOT / "history" / "lua" / f"{name}.lua").read_text(encoding="utf-8")
    keys = [key.strip() for key in re.findall(r"^-- KEYS\[\d+\] \w+ +([^,;\n]+)", head, re.MULTILINE)]
    keys = ["owner" if key == "the owner's sessions" else key for key in keys]
    section = PAGE[PAGE.index(SECTIONS[name]) :]
    sentence = re.search(r"keys ([\w ,]+?)(?: if you name one)?[:.]", " ".join(section.split()))
    assert sentence
    assert re.split(r",? and |, ", sentence[1]) == keys


def test_the_page_has_the_names_of_the_keys() -> None:
    keys = Keyspace("torpor", 1).of(b"SESSION")
    names = {
        "messages": keys.messages(b"SESSION"),
        "metadata": keys.metadata(b"SESSION"),
        "due": keys.due,
        "tally": keys.tally,
        "recent requests": keys.recent_requests(b"SESSION"),
        "owner": keys.owner(b"OWNER"),
        "legal holds": keys.holds,
    }
    section = PAGE.partition("## The keys")[2].partition("\n## ")[0]
    found = dict(re.findall(r"^\| ([a-z ]+) \| `(.+)` \|", section, re.MULTILINE))
    assert found == {key: name.decode().replace("{torpor:0}", "{torpor:SHARD}") for key, name in names.items()}
