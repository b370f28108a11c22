"""What tests of adoptions share."""

from __future__ import annotations

import pytest


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two messages or so."""
    monkeypatch.setattr("torpor.history.store.adoption.PAGE_BYTES", 400)
