"""A folder's objects in a bucket of the emulator, as another program copies them: content, metadata, custom time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from google.cloud import storage

from torpor.worker.archive.stores.folder_description import SUFFIX, Description, description_path


def copy(root: Path, bucket: str) -> None:
    """Copy what is a file, has a name that a bucket takes, and is not Torpor's own record of another file."""
    there = storage.Client().bucket(bucket)
    for path in _files(root):
        blob = there.blob(f"chats/{path.relative_to(root)}")
        blob.metadata, blob.custom_time = _described(path)
        blob.upload_from_string(path.read_bytes())


def _files(root: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink() and not name.endswith(SUFFIX) and _is_allowed(name):
                yield path


def _is_allowed(name: str) -> bool:
    """True for UTF-8 without ends of lines; see https://cloud.google.com/storage/docs/objects#naming."""
    return name.isprintable() and name.encode(errors="replace").decode() == name


def _described(path: Path) -> tuple[dict[str, str], datetime | None]:
    """The metadata, with texts as values, and the custom time; nothing of a description that is damaged."""
    with suppress(OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        if not description_path(path).is_file():  # a pipe has no end
            return {}, None
        content = description_path(path).read_bytes()
        entries = {name: _text(each) for name, each in json.loads(content)["metadata"].items()}
        custom_time = None
        with suppress(ValueError):
            custom_time = Description.parse(content).custom_time
        # The library writes an earlier year with fewer than four digits, and no store reads that.
        return entries, custom_time if custom_time and custom_time.year >= 1000 else None
    return {}, None


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    # The emulator sends metadata as headers too, and no header has a NUL.
    return text.replace("\0", " ").encode(errors="replace").decode()
