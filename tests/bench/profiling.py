"""Shows where the time of a measurement goes, in all threads that it starts."""

from __future__ import annotations

import cProfile
import pstats
import re
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from support.paths import ROOT

_TOP = 15
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_SOCKETS = re.compile(r"_socket\.socket|select\.(e?poll|select)")

Function = tuple[str, int, str]


class Profile:
    """cProfile over a measurement and the threads that it starts."""

    def __init__(self) -> None:
        self._profiles: list[cProfile.Profile] = []

    def run(self, act: Callable[[], object], timer: Callable[[], float]) -> None:
        """Call the function and note the time of each function by `timer`; needs Python 3.11.

        From 3.12 on, cProfile is a tool of sys.monitoring, and a second one is refused, in other threads too:
        https://docs.python.org/3/library/sys.monitoring.html#sys.monitoring.use_tool_id
        """
        if sys.version_info >= (3, 12):
            raise RuntimeError("run profiles with Python 3.11: since 3.12 only one cProfile can be active in a process")
        run = threading.Thread.run

        def profiled(thread: threading.Thread) -> None:
            self._profile(timer).runcall(run, thread)

        with patch.object(threading.Thread, "run", profiled):
            self._profile(timer).runcall(act)

    def lines(self) -> list[str]:
        """Shares of all time by package, then the functions with the most time of their own."""
        loaded: Any = pstats.Stats(*self._profiles)
        stats: dict[Function, Any] = loaded.stats
        total = sum(own for _, _, own, _, _ in stats.values())
        packages: Counter[str] = Counter()
        for function, stat in stats.items():
            for package, own in _shared_out(function, stat):
                packages[package] += own  # type: ignore[assignment] # a Counter of seconds
        by_package = ", ".join(f"{name} {own / total:.0%}" for name, own in packages.most_common() if own > total / 100)
        top = sorted(stats.items(), key=lambda item: -item[1][2])[:_TOP]
        return [
            by_package,
            *(f"{own / total:6.1%} {calls:9,} calls  {_named(*function)}" for function, (_, calls, own, _, _) in top),
        ]

    def _profile(self, timer: Callable[[], float]) -> cProfile.Profile:
        profile = cProfile.Profile(timer)
        self._profiles.append(profile)
        return profile


def _shared_out(function: Function, stat: Any) -> Iterator[tuple[str, float]]:
    """A function's own time by package; that of built-in functions, except sockets, counts as their callers'."""
    path, _, name = function
    _, _, own, _, callers = stat
    if path != "~":
        yield _package(path), own
    elif _SOCKETS.search(name):
        yield "sockets, and waiting for their answers", own
    else:
        for caller, (_, _, part, _) in callers.items():
            yield _package(caller[0]), part


def _package(path: str) -> str:
    if path == "~":
        return "built in"
    parts = _parts(path)
    return "/".join(parts[:2]) if parts[0] == "google" else parts[0]


def _named(path: str, line: int, function: str) -> str:
    """`redis/connection.py:123 send_packed_command`, without the folders of this machine."""
    if path == "~":
        return re.sub(r" at 0x[0-9a-f]+", "", function)
    return f"{'/'.join(_parts(path)[-3:])}:{line} {function}"


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path from its package on; those of the standard library begin with `Python`."""
    place = Path(path)
    if "site-packages" in place.parts:
        return place.parts[place.parts.index("site-packages") + 1 :]
    if place.is_relative_to(ROOT):
        return place.relative_to(ROOT).parts
    if place.is_relative_to(_STANDARD_LIBRARY):
        return ("Python", *place.relative_to(_STANDARD_LIBRARY).parts)
    return ("Python", path.removeprefix("<frozen ").removesuffix(">"))
