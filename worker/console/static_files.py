"""Static files: browsers keep one for a year if its address has its version, and else ask whether it has changed."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).with_name("static")
_VERSIONED = "public, max-age=31536000, immutable"
_UNVERSIONED = "no-cache"


@cache
def address(name: str) -> str:
    """The address of a file for templates, with its version."""
    digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:16]}"


class Files(StaticFiles):
    """The files of this console."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """A file, or that it has not changed."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        query = scope["query_string"].decode("latin-1")
        is_current = f"/static/{Path(full_path).name}?{query}" == address(Path(full_path).name)
        response.headers["Cache-Control"] = _VERSIONED if is_current else _UNVERSIONED
        return response
