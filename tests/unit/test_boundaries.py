"""The floors of the packages, the public names, and the imports that keep to both."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import torpor
from support.paths import ROOT
from torpor.history import errors, protocol

WORKER = sorted((ROOT / "worker").rglob("*.py"))
HISTORY = sorted((ROOT / "history").rglob("*.py"))

PUBLIC = [
    "ANY_OWNER",
    "AsyncSessionStore",
    "Client",
    "ClientMismatch",
    "InvalidArgument",
    "KindMismatch",
    "Layout",
    "LegalHold",
    "MemorystoreChatMessageHistory",
    "MemorystoreSaver",
    "MemorystoreSession",
    "MessageCorrupt",
    "NotAdoptable",
    "OwnerMismatch",
    "OwnerMissing",
    "OwnerRequired",
    "PermanentError",
    "RedisMemoryFull",
    "RedisUnavailable",
    "SessionArchive",
    "SessionHeld",
    "SessionIncomplete",
    "SessionInfo",
    "SessionNotFound",
    "SessionPurged",
    "Status",
    "TokenSource",
    "TorporError",
    "TransientError",
    "application_default",
    "connect",
]

# Packages that neither an application nor its library needs.
FOREIGN = ("torpor.worker", "celery", "kombu", "google", "pydantic_settings", "typer", "rich")


# The folders and modules of each part from bottom to top, each with those below it that it imports from.
FLOORS: dict[str, list[str]] = {
    "history.errors": [],
    "history.fields": [],
    "history.limits": ["history.errors"],
    "history.elements": [],
    "history.compression": ["history.errors", "history.elements"],
    "history.order": ["history.elements"],
    "history.ids": ["history.errors"],
    "history.keys": ["history.ids"],
    "history.owners": ["history.errors", "history.ids"],
    "history.expiry": ["history.errors"],
    "history.session": ["history.compression", "history.expiry"],
    "history.outcomes": ["history.session"],
    "history.overview": [],
    "history.policy": ["history.errors", "history.expiry"],
    "history.formats": [
        "history.errors",
        "history.limits",
        "history.elements",
        "history.ids",
        "history.keys",
    ],
    "history.adoption": ["history.errors", "history.formats"],
    "history.records": ["history.errors", "history.elements"],
    "history.scripts": ["history.fields"],
    "history.clients": ["history.errors"],
    "history.calls": [
        "history.errors",
        "history.fields",
        "history.limits",
        "history.compression",
        "history.ids",
        "history.keys",
        "history.owners",
        "history.expiry",
        "history.session",
        "history.outcomes",
        "history.overview",
        "history.policy",
        "history.formats",
        "history.adoption",
        "history.scripts",
    ],
    "history.store": [
        "history.errors",
        "history.limits",
        "history.elements",
        "history.compression",
        "history.order",
        "history.ids",
        "history.keys",
        "history.owners",
        "history.expiry",
        "history.session",
        "history.outcomes",
        "history.overview",
        "history.policy",
        "history.formats",
        "history.adoption",
        "history.scripts",
        "history.clients",
        "history.calls",
    ],
    "history.conversation": [
        "history.errors",
        "history.limits",
        "history.ids",
        "history.owners",
        "history.expiry",
        "history.session",
        "history.outcomes",
        "history.formats",
        "history.clients",
        "history.calls",
        "history.store",
    ],
    "history.thread": [
        "history.errors",
        "history.records",
        "history.session",
        "history.calls",
        "history.conversation",
    ],
    "history.adapters": [
        "history.errors",
        "history.limits",
        "history.elements",
        "history.ids",
        "history.expiry",
        "history.session",
        "history.formats",
        "history.records",
        "history.clients",
        "history.calls",
        "history.conversation",
        "history.thread",
    ],
    "history.protocol": [
        "history.errors",
        "history.limits",
        "history.elements",
        "history.compression",
        "history.ids",
        "history.keys",
        "history.owners",
        "history.expiry",
        "history.session",
        "history.outcomes",
        "history.overview",
        "history.policy",
        "history.formats",
        "history.adoption",
        "history.scripts",
        "history.clients",
        "history.store",
    ],
    "worker.errors": [],
    "worker.failpoints": [],
    "worker.control_characters": [],
    "worker.quantities": [],
    "worker.pace": [],
    "worker.meters": [],
    "worker.measures": ["worker.meters"],
    "worker.tracing": [],
    "worker.logs": ["worker.tracing", "worker.errors", "worker.control_characters"],
    "worker.archive": ["worker.errors", "worker.measures"],
    "worker.deployment": [
        "worker.errors",
        "worker.failpoints",
        "worker.pace",
        "worker.measures",
        "worker.logs",
        "worker.archive",
    ],
    "worker.jobs": [
        "worker.tracing",
        "worker.errors",
        "worker.failpoints",
        "worker.archive",
        "worker.deployment",
    ],
    "worker.retention": ["worker.errors", "worker.archive", "worker.deployment"],
    "worker.wake": [
        "worker.tracing",
        "worker.errors",
        "worker.failpoints",
        "worker.measures",
        "worker.archive",
        "worker.deployment",
        "worker.retention",
    ],
    "worker.transfer": [
        "worker.errors",
        "worker.control_characters",
        "worker.archive",
        "worker.deployment",
        "worker.wake",
    ],
    "worker.erasure": [
        "worker.tracing",
        "worker.errors",
        "worker.failpoints",
        "worker.archive",
        "worker.deployment",
        "worker.jobs",
        "worker.retention",
        "worker.transfer",
    ],
    "worker.sleep": [
        "worker.tracing",
        "worker.errors",
        "worker.failpoints",
        "worker.measures",
        "worker.logs",
        "worker.archive",
        "worker.deployment",
        "worker.retention",
        "worker.wake",
        "worker.erasure",
    ],
    "worker.monitoring": [
        "worker.errors",
        "worker.control_characters",
        "worker.measures",
        "worker.archive",
        "worker.deployment",
        "worker.jobs",
    ],
    "worker.audit": [
        "worker.errors",
        "worker.failpoints",
        "worker.archive",
        "worker.deployment",
        "worker.jobs",
    ],
    "worker.access": [
        "worker.errors",
        "worker.pace",
        "worker.failpoints",
        "worker.control_characters",
        "worker.archive",
        "worker.deployment",
        "worker.retention",
        "worker.wake",
        "worker.transfer",
        "worker.erasure",
        "worker.monitoring",
    ],
    "worker.ops": [
        "worker.errors",
        "worker.quantities",
        "worker.failpoints",
        "worker.archive",
        "worker.deployment",
        "worker.jobs",
        "worker.retention",
        "worker.wake",
        "worker.erasure",
        "worker.transfer",
        "worker.sleep",
        "worker.audit",
        "worker.monitoring",
    ],
    "worker.bulk": [
        "worker.archive",
        "worker.deployment",
        "worker.jobs",
        "worker.transfer",
        "worker.wake",
        "worker.ops",
    ],
    "worker.console": [
        "worker.errors",
        "worker.pace",
        "worker.control_characters",
        "worker.quantities",
        "worker.archive",
        "worker.deployment",
        "worker.jobs",
        "worker.retention",
        "worker.wake",
        "worker.transfer",
        "worker.erasure",
        "worker.sleep",
        "worker.monitoring",
        "worker.audit",
        "worker.access",
        "worker.ops",
        "worker.logs",
        "worker.bulk",
    ],
    "worker.tasks": [
        "worker.errors",
        "worker.logs",
        "worker.deployment",
        "worker.wake",
        "worker.erasure",
        "worker.sleep",
        "worker.archive",
        "worker.monitoring",
        "worker.jobs",
        "worker.bulk",
    ],
    "worker.app": [
        "worker.errors",
        "worker.archive",
        "worker.deployment",
        "worker.logs",
        "worker.sleep",
        "worker.monitoring",
    ],
    "worker.cli": [
        "worker.errors",
        "worker.pace",
        "worker.control_characters",
        "worker.quantities",
        "worker.archive",
        "worker.deployment",
        "worker.retention",
        "worker.wake",
        "worker.transfer",
        "worker.erasure",
        "worker.sleep",
        "worker.audit",
        "worker.access",
        "worker.ops",
        "worker.logs",
        "worker.monitoring",
        "worker.jobs",
        "worker.bulk",
        "worker.console",
    ],
}
# Imports that the floors forbid and that are allowed nevertheless: (importing, imported) -> why.
EXCEPTIONS: dict[tuple[str, str], str] = {}


def imports_of(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each import anywhere in a file; the name is None for `import module`."""
    return imports_in(ast.parse(path.read_text(encoding="utf-8")))


def imports_in(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no import is relative"
            yield from ((node.module or "", alias.name) for alias in node.names)


def module_of(path: Path) -> str:
    """The name of the module in a file, without `torpor.`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(module: str) -> str:
    """The folder or module directly below `worker` or `history` that a module belongs to."""
    return ".".join(module.split(".")[:2])


def folder_of(module: str) -> str:
    """The folder that a module stands in, however deep; the module itself if that is `worker` or `history`."""
    inner = module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]
    return inner if "." in inner else module


@cache
def house() -> dict[str, set[str]]:
    """Each module, and the modules of the house that it imports: anywhere in it, also for type checkers alone."""
    files = {module_of(path): path for path in (*HISTORY, *WORKER)}
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        imported = [(name.removeprefix("torpor."), inner) for name, inner in imports_of(path)]
        targets = {inside if (inside := f"{name}.{inner}") in files else name for name, inner in imported}
        found[module] = {each for each in targets if each in files and (module, each) not in EXCEPTIONS}
    return found


def test_every_module_is_on_a_floor() -> None:
    assert {floor_of(module_of(path)) for path in (*HISTORY, *WORKER)} - {"history", "worker"} == set(FLOORS)


def test_each_floor_may_import_from_floors_below_it_only() -> None:
    below: set[str] = set()
    for floor, allowed in FLOORS.items():
        assert set(allowed) <= below, f"{floor} may import from a floor that is not below it"
        below.add(floor)


def test_the_design_page_shows_these_floors() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = page.partition("\n## Floors\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    shown = [name for cell in cells for name in re.findall(r"`(\w+)/?`", cell) if name != "lua"]
    assert shown == [floor.partition(".")[2] for floor in FLOORS]


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_what_it_may_import(floor: str) -> None:
    package = floor.partition(".")[0] + "."
    modules = {module: imported for module, imported in house().items() if floor_of(module) == floor}
    used = {floor_of(each) for imported in modules.values() for each in imported if each.startswith(package)}
    assert used - {floor} == set(FLOORS[floor])


def test_no_module_is_imported_by_what_it_imports() -> None:
    graphlib.TopologicalSorter(house()).prepare()  # raises CycleError, which names the circle


def test_no_folder_is_imported_by_what_it_imports() -> None:
    folders: dict[str, set[str]] = {}
    for module, imported in house().items():
        folder = folder_of(module)
        folders.setdefault(folder, set()).update(set(map(folder_of, imported)) - {folder})
    graphlib.TopologicalSorter(folders).prepare()


def test_every_exception_is_an_import_that_is_there() -> None:
    files = {module_of(path): path for path in (*HISTORY, *WORKER)}
    for importing, imported in EXCEPTIONS:
        assert any(f"torpor.{imported}" in (name, f"{name}.{inner}") for name, inner in imports_of(files[importing]))


def test_the_public_names_are_these() -> None:
    assert sorted(torpor.__all__) == sorted(PUBLIC)
    assert all(getattr(torpor, name) is not None for name in PUBLIC)


def errors_of_history() -> list[type[Exception]]:
    return [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]


def test_the_worker_can_name_every_error_of_history() -> None:
    assert {error.__name__ for error in errors_of_history()} <= set(protocol.__all__)


def test_the_protocol_has_no_name_that_the_worker_does_not_use() -> None:
    used = {name for path in WORKER for module, name in imports_of(path) if module == "torpor.history.protocol"}
    assert set(protocol.__all__) - {error.__name__ for error in errors_of_history()} <= used


def test_the_protocol_documents_each_of_its_names() -> None:
    documented = set(re.findall(r"`(\w+)`", protocol.__doc__ or ""))
    assert set(protocol.__all__) - {each.__name__ for each in errors_of_history()} <= documented


def test_importing_history_imports_no_worker_celery_or_google() -> None:
    code = "import sys, torpor; torpor.MemorystoreChatMessageHistory; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert {"torpor.history", "redis", "langchain_core"} <= set(loaded)
    assert not set(loaded) & {*FOREIGN, "agents", "openai"}


def test_importing_the_protocol_loads_no_langchain() -> None:
    code = "import sys, torpor.history.protocol; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "torpor.history.store" in loaded
    assert not set(loaded) & {*FOREIGN, "langchain_core", "agents", "openai"}


def test_connecting_a_deployment_loads_nothing_heavy() -> None:
    code = "import sys, torpor.worker.deployment.services; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pydantic_settings" in loaded
    assert not loaded & {"celery", "kombu", "google", "requests", "isal", "langchain_core", "typer", "rich"}


# In the function that makes IAM tokens, if an application asks for them (the extra `torpor[iam]`).
IN_A_FUNCTION = {"history/clients/iam.py": ("_google_auth", ["google.auth.transport.requests"])}


@pytest.mark.parametrize("path", HISTORY, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_history_imports_from_the_worker_or_what_it_needs(path: Path) -> None:
    found = [module for module, _ in imports_of(path) if module.startswith(FOREIGN)]
    function, allowed = IN_A_FUNCTION.get(str(path.relative_to(ROOT)), ("", []))
    assert found == allowed
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and each.name == function]
    assert [each for one in functions for each, _ in imports_in(one)] == allowed


@pytest.mark.parametrize("path", HISTORY, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_history_reads_the_environment(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {name for _, name in imports_of(path) if name}
    assert not names & {"environ", "environb", "getenv"}


# A thread's records as plain data, which need ormsgpack.
RECORDS = [f"torpor.history.records.{name}" for name in ("record", "readable", "thread")]


@pytest.mark.parametrize("path", WORKER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_worker_uses_public_names_of_history_only(path: Path) -> None:
    used = {module for module, _ in imports_of(path) if module.startswith("torpor.history")}
    assert used <= {"torpor.history.protocol", "torpor.history.adapters.messages", *RECORDS}


def test_the_worker_does_use_history() -> None:
    assert {module for path in WORKER for module, _ in imports_of(path)} >= {"torpor.history.protocol"}
