"""The archive store that a URL names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.folder import FolderStore

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_archive(url: str, *, threads: int = 16, patience: float | None = None) -> ArchiveStore:
    """The archive store of a URL; raises ValueError. Imports Google's client only for a bucket.

    `patience`: the seconds within which a request to a bucket that is down is given up; a minute, unless given.
    """
    place = parse_archive_url(url)
    if isinstance(place, Path):
        return FolderStore(place)
    from torpor.worker.archive.stores.gcs import GcsStore

    bucket, prefix = place
    return GcsStore(bucket, prefix, threads=threads, patience=patience)


def parse_archive_url(url: str) -> tuple[str, str] | Path:
    """Bucket and prefix of `gs://bucket/prefix`, or the folder of `file:///path`; raises ValueError."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if "?" not in url and "#" not in url and "\0" not in path:
        if parts.scheme == "gs" and _BUCKET.fullmatch(parts.netloc):
            return parts.netloc, parts.path.strip("/")
        if parts.scheme == "file" and not parts.netloc and path.startswith("/"):
            return Path(path)
    raise ValueError("must be gs://bucket/prefix or file:///absolute/path, '?' and '#' percent-encoded")
