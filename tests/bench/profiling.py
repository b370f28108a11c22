"""Where the time of a measure goes, in all threads that it starts."""

from __future__ import annotations

import cProfile
import pstats
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

_TOP = 15


class Profile:
    """cProfile over a measure and the threads that it starts (Python 3.11: from 3.12 on, one thread at a time only)."""

    def __init__(self) -> None:
        self._profiles: list[cProfile.Profile] = []

    def run(self, act: Callable[[], object], timer: Callable[[], float]) -> None:
        """Do it, with the timer's kind of time noted for each function."""
        run = threading.Thread.run

        def profiled(thread: threading.Thread) -> None:
            self._profile(timer).runcall(run, thread)

        with patch.object(threading.Thread, "run", profiled):
            self._profile(timer).runcall(act)

    def lines(self) -> list[str]:
        """The functions with the most time of their own: its share of all, the number of calls, and the name."""
        stats: Any = pstats.Stats(*self._profiles)
        total = sum(own for _, _, own, _, _ in stats.stats.values())
        top = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:_TOP]
        return [f"{own / total:6.1%} {calls:9,} calls  {_named(*function)}" for function, (_, calls, own, _, _) in top]

    def _profile(self, timer: Callable[[], float]) -> cProfile.Profile:
        profile = cProfile.Profile(timer)
        self._profiles.append(profile)
        return profile


def _named(path: str, line: int, function: str) -> str:
    """`redis/connection.py:123 send_packed_command`, without the folders of this machine."""
    if path == "~":  # built in
        return re.sub(r" at 0x[0-9a-f]+", "", function)
    parts = Path(path).parts
    start = parts.index("site-packages") + 1 if "site-packages" in parts else -2
    return f"{'/'.join(parts[start:])}:{line} {function}"
