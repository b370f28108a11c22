"""`import torpor`: what it loads, what it costs, and what it says when an extra is not installed."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import torpor
from support.paths import ROOT

HEAVY = {"langchain_core", "pydantic", "redis", "celery", "kombu", "google", "requests", "agents", "typer", "rich"}

# Packages of the extras, which a base install does not have.
EXTRAS = "agents google httptools isal orjson celery kombu pydantic_settings rich typer fakeredis"

WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def run_without(packages: str, code: str) -> subprocess.CompletedProcess[str]:
    return run(WITHOUT.format(blocked=packages.split()) + code)


def cpu_seconds(code: str) -> float:
    """The least CPU time of five runs."""
    times: list[float] = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_import_torpor_loads_neither_langchain_nor_redis_nor_celery() -> None:
    done = run("import sys, torpor; print(*sys.modules)")
    assert "torpor" in done.stdout.split()
    assert not HEAVY & {name.partition(".")[0] for name in done.stdout.split()}


def test_import_torpor_takes_at_most_50_ms_of_cpu() -> None:
    assert cpu_seconds("import torpor") - cpu_seconds("pass") <= 0.05


def test_a_base_install_has_every_name_that_needs_no_extra() -> None:
    names = [name for name in torpor.__all__ if name != "SessionArchive"]
    done = run_without(EXTRAS, f"from torpor import {', '.join(names)}")
    assert done.returncode == 0, done.stderr


def test_a_name_that_needs_an_extra_says_which() -> None:
    done = run_without(EXTRAS, "from torpor import SessionArchive")
    assert done.stderr.splitlines()[-1] == "ImportError: SessionArchive needs pip install 'torpor[archive]'"
    assert "No module named" not in done.stderr


def test_the_extra_archive_is_all_that_a_session_archive_needs(tmp_path: Path) -> None:
    others = "agents celery kombu pydantic_settings rich typer fakeredis"
    done = run_without(others, f"from torpor import SessionArchive; SessionArchive('file://{tmp_path}')")
    assert done.returncode == 0, done.stderr


def test_iam_tokens_say_which_extra_they_need() -> None:
    code = "import torpor; torpor.connect('rediss://localhost', iam=True)"
    assert run_without("google", code).stderr.splitlines()[-1].endswith("pip install 'torpor[iam]'")


def test_a_missing_library_that_no_extra_installs_is_reported_as_it_is() -> None:
    done = run_without("langchain_core", "from torpor import MemorystoreChatMessageHistory")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'langchain_core'"


def test_the_docstring_of_torpor_documents_each_name() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", torpor.__doc__ or "", re.MULTILINE)
    errors = {"RedisUnavailable", "RedisMemoryFull"}  # beside TransientError
    assert set(documented) | errors == set(torpor.__all__)
    assert set(torpor.__all__) <= set(dir(torpor))


def test_type_checkers_see_each_name_of_torpor() -> None:
    tree = ast.parse((ROOT / "torpor" / "__init__.py").read_text(encoding="utf-8"))
    seen = {alias.name for each in ast.walk(tree) if isinstance(each, ast.ImportFrom) for alias in each.names}
    assert set(torpor.__all__) <= seen


def test_a_name_that_torpor_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        torpor.nope  # type: ignore[attr-defined]  # noqa: B018
