"""docs/reliability.md names tests that exist, and leaves out no failpoint and no module of faults."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from support.paths import ROOT
from torpor.worker.failpoints import Failpoint

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")

REFERENCES = sorted(set(re.findall(r"tests/[^\s`]*::[^\s`]*", PAGE)))
FAULT_MODULES = sorted((ROOT / "tests" / "faults").rglob("test_*.py"))


def rows_of_faults() -> list[list[str]]:
    """The cells of each row of the tables whose columns are the fault, what happens and the test."""
    tables = re.findall(r"^\| fault \| what happens \| test \|\n\|[- |]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [line.strip("| ").split(" | ") for table in tables for line in table.splitlines()]


@pytest.mark.parametrize("reference", REFERENCES)
def test_every_test_that_the_page_names_exists(reference: str) -> None:
    path, name = reference.split("::")
    assert name.startswith("test_")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_row_of_faults_names_a_test() -> None:
    rows = rows_of_faults()
    assert len(rows) > 50
    for row in rows:
        assert len(row) == 3, row
        assert any(reference in row[2] for reference in REFERENCES), row


def test_every_failpoint_has_a_row_and_no_other_has() -> None:
    assert re.findall(r"^\| `([a-z]+\.[a-z-]+)` \|", PAGE, re.MULTILINE) == list(Failpoint)


@pytest.mark.parametrize("module", FAULT_MODULES, ids=lambda module: module.name)
def test_every_module_of_faults_is_named(module: Path) -> None:
    assert module.relative_to(ROOT).as_posix() in PAGE
