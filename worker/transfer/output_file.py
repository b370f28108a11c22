"""A file that is replaced as a whole: whoever reads it finds the old content or the new, never a part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from secrets import token_hex

_INCOMPLETE = ".incomplete"


def private(path: str, flags: int) -> int:
    """Open a file that only its owner may read, whatever the umask is: it has people's words."""
    return os.open(path, flags, 0o600)


def write(output: Path, lines: Iterable[bytes], is_complete: Callable[[], bool] = lambda: True) -> Path:
    """Write lines to a temporary file beside `output`, and put it there at the end; returns the file that has them.

    If `is_complete` then says no, an older file stays as it is, and the lines are in FILE.incomplete beside it. If the
    lines end in an error, nothing is left of them. A pipe or a device is written to directly. A new file
    is its owner's alone. Raises OSError.
    """
    target = output.resolve()
    if target.exists() and not target.is_file():
        with target.open("wb") as out:
            out.writelines(lines)
        return output
    temporary = target.with_name(f".{token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=private) as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
            if not is_complete():
                output, target = (path.with_name(path.name + _INCOMPLETE) for path in (output, target))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return output
