"""Wait for a condition, in place of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest


def wait_until(predicate: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """Poll until the predicate is true, and return what it gave; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := predicate()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or predicate}")
        time.sleep(0.01)
    return result
