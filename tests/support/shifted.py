"""A Redis whose clock is not this host's. No server here can be given another clock, so its scripts add a span."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from torpor.history import scripts

_READ = "read_us = time[1] * 1000000 + time[2]"


@contextmanager
def redis_ahead(span: timedelta) -> Iterator[None]:
    """Let each script take Redis's clock to be so far ahead of this host's, or behind it if the span is negative."""
    read = scripts._read
    assert _READ in read("lib/clock")
    shift = f"{_READ} + ({span // timedelta(microseconds=1)})"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "_read", lambda name: read(name).replace(_READ, shift))
        scripts.script.cache_clear()
        yield
    scripts.script.cache_clear()
