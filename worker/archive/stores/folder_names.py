"""The object names in an archive folder, in the order in which a bucket lists them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from torpor.worker.archive.stores.folder_description import SUFFIX

# The folder for files that are not complete yet. No object name begins like this.
TEMPORARY = "tmp/"


def object_names(root: Path, prefix: str) -> Iterator[str]:
    """The names below `root` that begin with `prefix`. Reads one folder at a time.

    An object may have been deleted since. The name of an object also comes if only its description is left. What is no
    file, such as a link, comes too.
    """
    folder, slash, _ = prefix.rpartition("/")
    yield from _names(root, folder + slash, prefix)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """True for a folder itself. A link to one may lead anywhere, also to a folder above it."""
    return entry.is_dir(follow_symlinks=False)


def _names(root: Path, folder: str, prefix: str) -> Iterator[str]:
    """As `object_names`, below a folder whose name is empty or ends with '/'."""
    try:
        with os.scandir(root / folder) as entries:
            # Sorted with its '/', a folder `a` stands between the objects `a-b` and `a0`, as in a bucket.
            found = {e.name + "/" if _is_folder(e) else e.name.removesuffix(SUFFIX) for e in entries}
    except FileNotFoundError:
        return
    for name in sorted(found):
        path = folder + name
        if path == TEMPORARY:
            continue
        if path.endswith("/") and (path.startswith(prefix) or prefix.startswith(path)):
            yield from _names(root, path, prefix)
        elif path.startswith(prefix):
            yield path
