"""The distributions that are built from the checkout, and environments with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.environments import Environment, new_environment, users_directory, uv
from support.paths import ROOT


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--out-dir", folder, ROOT)
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    [file] = built.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and the worker's extra."""
    return new_environment(tmp_path_factory.mktemp("installed"), f"torpor[worker] @ {wheel.as_uri()}")


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, without an extra."""
    return new_environment(tmp_path_factory.mktemp("base"), wheel)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The directory of a user who has modules called worker and history."""
    return users_directory(tmp_path / "user")
