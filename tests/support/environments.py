"""Environments with a built Torpor, and a directory of a user's own modules that must never be imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from support.paths import ROOT
from support.servers import missing
from support.waiting import scaled

# Ordinary names in Celery projects and chat applications. celery.py is Celery's own advice for a project's app.
USERS_FILES = ("worker.py", "worker/__init__.py", "history.py", "history/__init__.py", "celery.py")


@cache
def uv_command() -> str:
    return shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv") or missing("uv")


def uv(*arguments: str | Path) -> None:
    """Run uv from its cache, or with the network if the cache lacks something."""
    for offline in (["--offline"], []):
        command = [uv_command(), "--quiet", *offline, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=_bare_environment())
        if done.returncode == 0:
            return
    missing(f"{arguments[-1]} ({done.stderr.strip()})")


def _bare_environment() -> dict[str, str]:
    """The environment without variables that lead another Python to this one's modules or settings."""
    ours = ("PYTHON", "TORPOR_", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, command: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """The result of one of the environment's commands, run in `cwd` with TORPOR_ settings."""
        return subprocess.run(
            [self.folder / "bin" / command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=self._variables(settings),
            timeout=scaled(90),
        )

    @contextmanager
    def started(
        self, command: str, *arguments: str, cwd: Path, log: Path, **settings: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process of the environment, which is asked to end at the end."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.folder / "bin" / command, *arguments],
                cwd=cwd,
                env=self._variables(settings),
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(scaled(30))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _variables(self, settings: Mapping[str, str]) -> dict[str, Any]:
        bare = _bare_environment()
        path = f"{self.folder / 'bin'}{os.pathsep}{bare['PATH']}"
        return {**bare, "PATH": path, **{f"TORPOR_{name}": value for name, value in settings.items()}}


def new_environment(folder: Path, *packages: str | Path) -> Environment:
    """An environment with these packages, in the versions of the lock file."""
    made = Environment(folder / "venv")
    venv.create(made.folder, symlinks=True)
    locked = folder / "locked.txt"
    exported = ["--locked", "--no-hashes", "--all-extras", "--all-groups", "--no-emit-project", "-o", str(locked)]
    uv("export", *exported)
    uv("pip", "install", "--python", made.python, "--constraint", locked, *packages)
    return made


def users_directory(folder: Path) -> Path:
    """A directory of a user whose modules fail the process that imports them."""
    for name in USERS_FILES:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"raise RuntimeError('{name} of the user was imported')\n")
    return folder
