"""From the root of a checkout, `history` and `worker` are `torpor.history` and `torpor.worker` under shorter names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Alias(MetaPathFinder, Loader):
    """Finds `<package>.x` as `torpor.<package>.x`, so that no module is loaded twice under two names.

    Source: https://docs.python.org/3/reference/import.html#the-meta-path
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith(f"{self._package}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"torpor.{spec.name}")
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just given the module the alias's spec.
        module.__spec__ = self._specs.pop(module.__spec__.name) if module.__spec__ else None


def alias(package: str) -> None:
    """Make the top-level `package` and all below it the modules of `torpor.<package>`."""
    sys.meta_path.insert(0, _Alias(package))
    sys.modules[package] = importlib.import_module(f"torpor.{package}")
