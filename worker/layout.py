"""Every object name in the archive: what goes where, and what a name tells.

<prefix>/v1/<hh>/<session>/<epoch>/<from>-<to>-<digest>.jsonl.gz   a segment
<prefix>/v1/<hh>/<session>/<epoch>/floor                           older epochs must not come back
<prefix>/v1/owners/<hh>/<owner>/<session>/<epoch>                  the owner has this epoch of the session

<prefix>/v1/deployment                                             whose archive this is: the namespace

The prefix is the store's; names here are relative to it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

ROOT = "v1"
DEPLOYMENT = f"{ROOT}/deployment"
# File systems allow 255 bytes for a name, Cloud Storage 1,024 for all of it.
_MAX_COMPONENT = 200

_NUMBER = "0|[1-9][0-9]*"
_SEGMENT = re.compile(
    rf"(?P<epoch>{_NUMBER})/(?P<start>{_NUMBER})-(?P<stop>{_NUMBER})-(?P<digest>[0-9a-f]{{8}})\.jsonl\.gz"
)
_FLOOR = re.compile(rf"(?P<epoch>{_NUMBER})/floor")


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What a segment's name tells: messages `[start, stop)` of one epoch, counted from the epoch's own first."""

    epoch: int
    start: int
    stop: int
    digest: str


@dataclass(frozen=True, slots=True)
class FloorName:
    """What a floor marker's name tells: epochs below this one must not come back."""

    epoch: int


def session_prefix(session_id: str) -> str:
    """What the names of all of a session's objects begin with."""
    component = _component(session_id)
    return f"{ROOT}/{_spread(session_id)}/{component}/"


def segment_name(session_id: str, name: SegmentName) -> str:
    """The name of a segment."""
    return f"{session_prefix(session_id)}{name.epoch}/{name.start}-{name.stop}-{name.digest}.jsonl.gz"


def floor_name(session_id: str, floor: int) -> str:
    """The name of a floor marker."""
    return f"{session_prefix(session_id)}{floor}/floor"


def owner_marker(owner: str, session_id: str, epoch: int) -> str:
    """The name of the empty object by which an owner's session is found.

    Each epoch has its own, so that whoever erases older epochs can't take the marker of a newer one.
    """
    return f"{owner_markers(owner, session_id)}{epoch}"


def owner_markers(owner: str, session_id: str) -> str:
    """What the names of an owner's markers of a session begin with."""
    return f"{ROOT}/owners/{_spread(owner)}/{_component(owner)}/{_component(session_id)}/"


def marked_epoch(owner: str, session_id: str, object_name: str) -> int | None:
    """The epoch of an owner's marker of this session; None for every other name."""
    epoch = object_name.rpartition("/")[2]
    if re.fullmatch(_NUMBER, epoch) and object_name == owner_marker(owner, session_id, int(epoch)):
        return int(epoch)
    return None


def parse(session_id: str, object_name: str) -> SegmentName | FloorName | None:
    """What a name below `session_prefix` tells; None for a name that is not Torpor's."""
    prefix = session_prefix(session_id)
    if not object_name.startswith(prefix):
        return None
    if match := _SEGMENT.fullmatch(object_name, len(prefix)):
        return SegmentName(int(match["epoch"]), int(match["start"]), int(match["stop"]), match["digest"])
    if match := _FLOOR.fullmatch(object_name, len(prefix)):
        return FloorName(int(match["epoch"]))
    return None


def _component(value: str) -> str:
    """Percent-encoded; by its SHA-256 where that is too long. '=' is never in the first form, so the two differ."""
    encoded = quote(value, safe="")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]  # '.' and '..' are not names
    if len(encoded) > _MAX_COMPONENT:
        return "sha256=" + hashlib.sha256(value.encode()).hexdigest()
    return encoded


def _spread(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:2]
