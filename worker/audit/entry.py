"""Entry: the documents that say who does something with sessions, what, why, and how it has ended.

An entry is two objects that nobody changes: its beginning, written before the act, and its end. An entry without an end
is of a command that runs, or that was killed.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import FailFast, Field

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive import names
from torpor.worker.archive.documents import Document, Moment
from torpor.worker.audit.act import Act

# An entry names so many sessions; a command that names more writes several.
MOST_SESSIONS = 1_000
# Bytes of an entry: the ids of its sessions, and free text.
MOST_BYTES = 8 * 1024 * 1024


class How(StrEnum):
    """How an act has ended."""

    DONE = "done"
    UNCHANGED = "unchanged"  # nothing was changed: it was so already, or there was nothing to do
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Subject(Document):
    """What an act is about: sessions by id, those of an owner, or those whose ids `match` a pattern; a purge or a job.

    If nothing is given, it is about all sessions, or about the deployment. The entry of a purge names no session and no
    owner: its order and its receipt do.
    """

    sessions: Annotated[list[str], FailFast()] = Field(default_factory=list)
    owner: str | None = None
    match: str | None = None
    purge: str | None = None
    job: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """What the subject names by one name, but for sessions."""
        names = {"owner": self.owner, "match": self.match, "purge": self.purge, "job": self.job}
        return {kind: name for kind, name in names.items() if name is not None}


EVERYTHING = Subject()


class Begun(Document):
    """The beginning of an entry. `at` is by Redis's clock; `by` and `reason` are free text, unchecked."""

    id: str = Field(alias="audit")
    at: Moment
    act: str
    by: str
    login: str
    reason: str
    subject: Subject


class Ended(Document):
    """The end of an entry. `sessions` counts what was done; `error` is the name of an error without its text."""

    id: str = Field(alias="audit")
    at: Moment
    how: str
    sessions: int
    error: str | None = None


def new_id(at: datetime) -> str:
    """An id of an entry; ids sort by the moments, to the millisecond."""
    return f"{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03d}Z-{secrets.token_hex(4)}"


def check_id(audit: str) -> str:
    """The id itself, if an entry may have it; raises InvalidArgument."""
    if not names.is_audit(audit):
        raise InvalidArgument(f"{audit!r} is not the id of an entry of the audit trail")
    return audit


def begin(at: datetime, act: Act, subject: Subject, *, by: str, reason: str) -> Begun:
    """A new entry, as this process writes it."""
    return Begun(audit=new_id(at), at=at, act=act, by=by, login=_login(), reason=reason, subject=subject)


def _login() -> str:
    """The user of this process, and its host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}".encode(errors="replace").decode()
