"""Consoles behind Identity-Aware Proxy, whose keys are the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guarded_console import Served, served_behind
from support.iap import IdentityProxy
from torpor.worker.deployment.services import Services


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """An archive in a folder: the console makes no difference between archives."""
    return (scratch / "archive").as_uri()


@pytest.fixture
def identity_proxy() -> Iterator[IdentityProxy]:
    with IdentityProxy().published() as running:
        yield running


@pytest.fixture
def behind_iap(services: Services, identity_proxy: IdentityProxy) -> Iterator[Served]:
    """A console with one person for each role."""
    with served_behind(identity_proxy, services) as console:
        yield console
