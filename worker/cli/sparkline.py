"""Sparklines: a row of characters that shows how a figure has changed."""

from __future__ import annotations

from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS = "_.-=+*#@"
_NONE = " "


def draw(values: Sequence[float | None], *, ascii_only: bool = False) -> str:
    """One character for each value, from 0 to the highest of all."""
    marks = _ASCII_LEVELS if ascii_only else _LEVELS
    most = max((value for value in values if value is not None), default=0)
    return "".join(_NONE if value is None else marks[_level(value, most)] for value in values)


def _level(value: float, most: float) -> int:
    """0 for nothing; everything else is seen."""
    top = len(_LEVELS) - 1
    return min(1 + int(value / most * top), top) if value > 0 else 0
