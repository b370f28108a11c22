"""Imports every module below the packages that are named, and fails if a file of Torpor was loaded twice.

Prints how many files were loaded.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType

from celery._state import _get_active_apps

OF_OTHER_EXTRAS = {
    "agents",
    "authlib",
    "fakeredis",
    "httpx2",
    "jinja2",
    "joserfc",
    "langgraph",
    "limits",
    "pyarrow",
    "starlette",
    "uvicorn",
}

for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for each in pkgutil.walk_packages(package.__path__, f"{name}."):
        if each.name.endswith(("__main__", ".demo")):  # they run
            continue
        try:
            importlib.import_module(each.name)
        except ModuleNotFoundError as error:
            if error.name not in OF_OTHER_EXTRAS:
                raise

root = Path(sys.modules["torpor"].__file__ or "").resolve().parents[1]
loaded: dict[Path, list[ModuleType]] = defaultdict(list)
for module in {id(each): each for each in list(sys.modules.values())}.values():
    file = getattr(module, "__file__", None)
    if file and module.__name__ != "__main__" and root in Path(file).resolve().parents:
        loaded[Path(file).resolve()].append(module)
ours = {
    file: modules for file, modules in loaded.items() if "torpor" in {m.__name__.partition(".")[0] for m in modules}
}
twice = {file: modules for file, modules in ours.items() if len(modules) > 1}
assert not twice, twice

apps = {app.main for app in _get_active_apps()}
assert apps == {"torpor"}, apps
assert len(list(_get_active_apps())) == 1
sys.stdout.write(f"{len(ours)}\n")
