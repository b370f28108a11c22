"""Waits for conditions, in place of sleeping. On a busy machine every bound is longer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

# On an idle machine with two cores a worker imports its tasks in 1.1 s.
_START = "import torpor.worker.tasks"
_USUAL_SECONDS = 1.2


def wait_until(predicate: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """Poll until the predicate is true, and return its result; fail after `seconds`, or later on a busy machine."""
    began = time.monotonic()
    while not (result := predicate()):
        waited = time.monotonic() - began
        if waited > seconds and waited > scaled(seconds):
            pytest.fail(f"not within {waited:.0f} s: {what or predicate}")
        time.sleep(0.01)
    return result


def scaled(seconds: float) -> float:
    """The bound on this machine for something that takes at most `seconds` on an idle one."""
    return seconds * slowness()


@cache
def slowness() -> float:
    """How many times longer a bare worker takes to start here than on an idle machine: 1 or more.

    Each test process measures it once, when it first needs a bound.
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", _START], check=True, capture_output=True)
    return max(1.0, (time.monotonic() - began) / _USUAL_SECONDS)
