"""The wheel and the source distribution: what is in them, and that one makes the other."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from support.environments import uv
from support.paths import ROOT


def contents(wheel: Path) -> dict[str, int]:
    """Name -> checksum of each file."""
    with zipfile.ZipFile(wheel) as archive:
        return {each.filename: each.CRC for each in archive.infolist()}


def tracked(*folders: str) -> set[str]:
    """The files that belong to the package, under the names that they have in it."""
    files = {file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file()}
    return {f"torpor/{file.relative_to(ROOT)}" for file in files if "__pycache__" not in file.parts}


def test_the_wheel_holds_every_file_of_the_package_once_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in contents(wheel) if ".dist-info/" not in name}
    top = {"torpor/__init__.py", "torpor/__main__.py", "torpor/_checkout.py", "torpor/py.typed"}
    assert packed == tracked("history", "worker") | top
    assert {"torpor/history/lua/append.lua", "torpor/worker/cli/sample.jsonl", "torpor/history/py.typed"} <= packed
    console = ("templates/base.html", "static/console.css", "static/VENDORED.md")
    licences = ("static/htmx.LICENSE.txt", "static/uplot.LICENSE.txt")
    assert {f"torpor/worker/console/{name}" for name in (*console, *licences)} <= packed


def test_the_checkout_makes_the_same_wheel_as_the_source_distribution(wheel: Path, tmp_path: Path) -> None:
    uv("build", "--wheel", "--out-dir", tmp_path, ROOT)
    [direct] = tmp_path.glob("*.whl")
    assert contents(direct) == contents(wheel)


def test_the_source_distribution_holds_each_file_once_and_no_link(built: Path) -> None:
    [file] = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    names = [member.name.partition("/")[2] for member in members]
    assert len(names) == len(set(names))
    about = {"CHANGELOG.md", ".gitignore", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO"}
    assert {name.partition("/")[0] for name in names} == {"torpor"} | about


def test_both_are_fit_for_an_index(built: Path) -> None:
    files = [str(file) for file in built.iterdir() if file.suffix in {".whl", ".gz"}]
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
