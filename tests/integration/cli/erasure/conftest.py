"""A bucket is reached through the proxy."""

from __future__ import annotations

import pytest


@pytest.fixture
def archive_url(request: pytest.FixtureRequest, archive_url: str) -> str:
    """As everywhere, a bucket through the proxy."""
    if archive_url.startswith("gs://"):
        request.getfixturevalue("proxy")
    return archive_url
