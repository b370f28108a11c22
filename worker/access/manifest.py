"""Manifest: the documents beside a person's data that say what was found, and what was copied of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from torpor.history.protocol import SessionKind
from torpor.worker.archive.documents import Document, Moment
from torpor.worker.erasure.inventory import Found, Tally


class Copied(Document):
    """One line of a manifest: a session, as a purge of its owner would find it, and what was copied of it.

    `found` is its line of a purge's inventory. `sha256` is that of its line in `file`. There is no line if the session
    was `omitted`, for the reason that this gives. `unreadable` counts the messages that the text does not show; the
    line has all of them.
    """

    found: Found
    kind: SessionKind | None
    created: Moment | None
    last_active: Moment | None
    file: str
    messages: int
    unreadable: int
    sha256: str | None
    omitted: str | None
    copied_at: Moment


class File(Document):
    """A file of the folder."""

    name: str
    bytes: int
    sha256: str


class Request(Document):
    """Whose data a folder is for. It stands in the folder until the manifest is complete."""

    owner: str
    deployment: str | None
    archive: str
    by: str
    reason: str
    begun_at: Moment


class Manifest(Request):
    """What a folder has, when it is complete. `found` is what a purge of the owner would have found."""

    finished_at: Moment
    found: Tally
    copied: Annotated[Tally, Field(description="Sessions and messages; of objects and bytes, those of these sessions.")]
    omitted: int
    unreadable: int
    files: list[File]
