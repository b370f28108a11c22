"""The documentation names files that exist, and the examples import public names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT
from torpor.history.fields import STORED

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"])
_PATH = re.compile(r"(?:history|worker|torpor|tests|docs|examples)/[\w./-]*")
_FILE = re.compile(r"\w+\.(?:lua|py)")


def named_files(page: Path) -> Iterator[str]:
    """The paths, and names of Lua and Python files, that a page has in code type; `path:function` names the path."""
    for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        name = re.split("[:#]", code)[0]
        if _PATH.fullmatch(name) or _FILE.fullmatch(name):
            yield name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    files = {path.name for folder in ("history", "worker", "docs", "examples") for path in (ROOT / folder).rglob("*.*")}
    own = {"chat.py", "worker.py", "history.py"}  # those of a user
    missing = {
        name for name in named_files(page) if not ((ROOT / name).exists() if "/" in name else name in files | own)
    }
    assert not missing


def test_the_data_model_maps_every_stored_field_to_its_name() -> None:
    page = (ROOT / "docs" / "data-model.md").read_text(encoding="utf-8")
    section = page.partition("### The metadata of a session")[2].partition("###")[0]
    assert {name: stored for stored, name in re.findall(r"^\| `(\w+)` \| `(\w+)` \|", section, re.MULTILINE)} == STORED


@pytest.mark.parametrize("program", sorted((ROOT / "examples").glob("*.py")), ids=lambda program: program.name)
def test_an_example_imports_only_what_an_application_may_import(program: Path) -> None:
    lines = re.findall(r"^(?:from|import) torpor.*$", program.read_text(encoding="utf-8"), re.MULTILINE)
    assert lines
    assert all(line.startswith("from torpor import ") for line in lines)
