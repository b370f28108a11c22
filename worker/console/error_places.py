"""Where an unexpected error happened, for the log: never its text, which could have words of people."""

from __future__ import annotations

import traceback
from pathlib import Path

_MOST_PLACES = 8


def place_of(error: BaseException) -> str:
    """The class of an error, and the last lines on the way to it."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-_MOST_PLACES:]]
    return f"{type(error).__name__} at {' > '.join(places)}"
