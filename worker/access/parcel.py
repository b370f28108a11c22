"""Parcel: the files of an answer to a request for access, as one ZIP file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from torpor.worker.transfer.output_file import private

# The files are text, of which the fastest level saves most.
_LEVEL = 1


def pack(folder: Path, target: Path, named: str, step: Callable[[], None] = lambda: None) -> None:
    """Move the files of a folder to a new ZIP file, below `named`; only its owner may read it.

    Each file is deleted as soon as it is packed, so that the disk has it once. Calls `step` before each file, which may
    end the packing by an exception. Raises OSError.
    """
    with (
        open(target, "xb", opener=private) as out,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as zipped,
    ):
        for path in sorted(folder.iterdir()):
            step()
            zipped.write(path, f"{named}/{path.name}")
            path.unlink()
