"""Every object name in the archive: makes names, and reads them.

<prefix>/v1/<hh>/<session>/<epoch>/<from>-<to>-<digest>.jsonl.gz   a segment
<prefix>/v1/<hh>/<session>/<epoch>/floor                           a floor marker: older epochs must not come back
<prefix>/v1/owners/<hh>/<owner>/<session>/<epoch>                  an owner marker: the owner has this epoch

<prefix>/v1/orders/<purge>.json                                    the order of a purge that is not finished
<prefix>/v1/receipts/<purge>/<number>.jsonl.gz                     an inventory, written before its objects are removed
<prefix>/v1/receipts/<purge>/<number>.removed                      that inventory was removed once
<prefix>/v1/receipts/<purge>/listed                                all of the purge's inventories are written
<prefix>/v1/receipts/<purge>/receipt.json                          the receipt

<prefix>/v1/audit/<day>/<entry>/begun.json                         what somebody is about to do, in the audit trail
<prefix>/v1/audit/<day>/<entry>/ended.json                         how it has ended

<prefix>/v1/job-orders/<job>.json                                  the order of a job that is not finished
<prefix>/v1/jobs/<job>/<number>.jsonl.gz                           a batch: the units that are worked on together
<prefix>/v1/jobs/<job>/<number>.done                               that batch was done once, and what came of it
<prefix>/v1/jobs/<job>/listed                                      all of the job's batches are written
<prefix>/v1/jobs/<job>/canceled                                    the job ends without the rest of them
<prefix>/v1/jobs/<job>/result.json                                 the result

<prefix>/v1/deployment                                             the namespace that owns the archive
<prefix>/v1/identity/<number>.json                                 the deployment that owns it; the last one counts
<prefix>/v1/probe                                                  a test object, there for a moment

<hh> is two hexadecimal digits of a hash. The store adds the prefix; names here are relative to it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from urllib.parse import quote, unquote

from torpor.history.protocol import InvalidSessionId, check_session_id
from torpor.worker.archive.stores import ROOT

DEPLOYMENT = f"{ROOT}deployment"
IDENTITIES = f"{ROOT}identity/"
PROBE = f"{ROOT}probe"
AUDIT = f"{ROOT}audit/"
AUDIT_BEGUN, AUDIT_ENDED = "begun.json", "ended.json"
# The folders of sessions, by the first two digits of the SHA-256 of their ids: names spread over the bucket.
SPREADS = [f"{ROOT}{number:02x}/" for number in range(256)]
# File systems allow 255 bytes for each part of a name, Cloud Storage 1,024 for the whole name.
_MAX_COMPONENT = 200

_NUMBER = "0|[1-9][0-9]*"
_SEGMENT = re.compile(
    rf"(?P<epoch>{_NUMBER})/(?P<start>{_NUMBER})-(?P<stop>{_NUMBER})-(?P<digest>[0-9a-f]{{8}})\.jsonl\.gz"
)
_IDENTITY = re.compile(rf"{IDENTITIES}(?P<number>[0-9]{{6}})\.json")
_AUDIT_ID = re.compile(r"[0-9]{8}[A-Za-z0-9-]{1,40}")
_AUDIT = re.compile(rf"{AUDIT}(?P<day>[0-9]{{8}})/(?P<audit>{_AUDIT_ID.pattern})/(?P<part>begun|ended)\.json")
_FLOOR = re.compile(rf"(?P<epoch>{_NUMBER})/floor")


@dataclass(frozen=True, slots=True)
class JobNames:
    """The names of the objects of one kind of job. `done` ends the name of what says that a batch was done once."""

    orders: str
    work: str
    done: str
    conclusion: str

    def order(self, job: str) -> str:
        """The name of the order of a job that is not finished."""
        return f"{self.orders}{job}.json"

    def folder(self, job: str) -> str:
        """The prefix of the names of a job's batches and of its conclusion."""
        return f"{self.work}{job}/"

    def job_of(self, object_name: str) -> str:
        """The id of the job that an object of this kind belongs to."""
        if object_name.startswith(self.orders):
            return object_name.removeprefix(self.orders).removesuffix(".json")
        return object_name.removeprefix(self.work).partition("/")[0]

    def batch(self, job: str, number: int) -> str:
        """The name of one of a job's batches. The first is number 1."""
        return f"{self.folder(job)}{number:06d}.jsonl.gz"

    def batch_done(self, job: str, number: int) -> str:
        """The name of the object that says that a batch was done once."""
        return f"{self.folder(job)}{number:06d}.{self.done}"

    def number_of(self, job: str, object_name: str) -> int | None:
        """The number in the name of a batch, or of the object that says that it was done; None for another name."""
        number = object_name.removeprefix(self.folder(job)).partition(".")[0]
        known = [self.batch(job, int(number)), self.batch_done(job, int(number))] if number.isdecimal() else []
        return int(number) if object_name in known else None

    def listed(self, job: str) -> str:
        """The name of the empty object that says that all of a job's batches are written."""
        return f"{self.folder(job)}listed"

    def canceled(self, job: str) -> str:
        """The name of the empty object that says that a job ends without the rest of its batches."""
        return f"{self.folder(job)}canceled"

    def result(self, job: str) -> str:
        """The name of the document that a finished job leaves: of a purge, the receipt."""
        return f"{self.folder(job)}{self.conclusion}"


PURGES = JobNames(f"{ROOT}orders/", f"{ROOT}receipts/", "removed", "receipt.json")
JOBS = JobNames(f"{ROOT}job-orders/", f"{ROOT}jobs/", "done", "result.json")
# Where all other names begin.
APART = [
    DEPLOYMENT,
    IDENTITIES,
    PROBE,
    f"{ROOT}owners/",
    PURGES.orders,
    PURGES.work,
    AUDIT,
    JOBS.orders,
    JOBS.work,
]


@dataclass(frozen=True, slots=True)
class SegmentName:
    """The parts of a segment's name: it has messages `[start, stop)` of one epoch, whose first message is number 0."""

    epoch: int
    start: int
    stop: int
    digest: str


@dataclass(frozen=True, slots=True)
class FloorName:
    """The part of a floor marker's name: epochs below this one must not come back."""

    epoch: int


def session_prefix(session_id: str) -> str:
    """The prefix of the names of a session's objects."""
    component = _component(session_id)
    return f"{ROOT}{_spread(session_id)}/{component}/"


def segment_name(session_id: str, name: SegmentName) -> str:
    """The name of a segment."""
    return f"{session_prefix(session_id)}{name.epoch}/{name.start}-{name.stop}-{name.digest}.jsonl.gz"


def floor_name(session_id: str, floor: int) -> str:
    """The name of a floor marker."""
    return f"{session_prefix(session_id)}{floor}/floor"


def owner_marker(owner: str, session_id: str, epoch: int) -> str:
    """The name of an owner marker: the empty object by which an owner's session is found.

    Each epoch has its own marker, so that an erasure of older epochs can't delete the marker of a newer one.
    """
    return f"{owner_markers(owner, session_id)}{epoch}"


def owner_markers(owner: str, session_id: str) -> str:
    """The prefix of the names of an owner's markers for a session."""
    return f"{all_owner_markers(owner)}{_component(session_id)}/"


def all_owner_markers(owner: str) -> str:
    """The prefix of the names of all of an owner's markers."""
    return f"{ROOT}owners/{_spread(owner)}/{_component(owner)}/"


def marked_epoch(owner: str, session_id: str, object_name: str) -> int | None:
    """The epoch of an owner marker for this session; None for every other name."""
    epoch = object_name.rpartition("/")[2]
    if re.fullmatch(_NUMBER, epoch) and object_name == owner_marker(owner, session_id, int(epoch)):
        return int(epoch)
    return None


def marked_session(owner: str, object_name: str, metadata: Mapping[str, str]) -> str | None:
    """The session of an owner marker; None if the name is no marker of this owner."""
    component = object_name.removeprefix(all_owner_markers(owner)).partition("/")[0]
    epoch = object_name.rpartition("/")[2]
    for session_id in _candidates(component, [metadata]):
        if re.fullmatch(_NUMBER, epoch) and object_name == owner_marker(owner, session_id, int(epoch)):
            return session_id
    return None


def stored_session(folder: str, metadata: Iterable[Mapping[str, str]]) -> str | None:
    """The session of a folder, by its name and the metadata of its objects; None if the folder is no session's."""
    candidates = _candidates(folder.rstrip("/").rpartition("/")[2], metadata)
    return next((session_id for session_id in candidates if folder == session_prefix(session_id)), None)


def _candidates(component: str, metadata: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """What a session id may be, by the part of a name that stands for it. Metadata may be missing or wrong."""
    for candidate in chain([unquote(component)], (each["session"] for each in metadata if "session" in each)):
        with suppress(InvalidSessionId):
            yield check_session_id(candidate)


def folder_of(object_name: str) -> str:
    """The folder of a session, by the name of one of its objects below SPREADS."""
    return "/".join(object_name.split("/", 3)[:3]) + "/"


def identity_name(number: int) -> str:
    """The name of the object with the deployment's id. The first is number 1."""
    return f"{IDENTITIES}{number:06d}.json"


def identity_number(object_name: str) -> int | None:
    """The number in an `identity_name`; None for another name."""
    match = _IDENTITY.fullmatch(object_name)
    return int(match["number"]) if match else None


def is_audit(text: str) -> bool:
    """True for what may be the id of an entry of the audit trail."""
    return bool(_AUDIT_ID.fullmatch(text))


def audit_name(audit: str, part: str) -> str:
    """The name of a part of an entry of the audit trail, AUDIT_BEGUN or AUDIT_ENDED. Names sort by the moments."""
    return f"{AUDIT}{audit[:8]}/{audit}/{part}"


def audit_of(object_name: str) -> tuple[str, str]:
    """The entry of the audit trail, and the part of it, in an `audit_name`; no part for another name below AUDIT."""
    match = _AUDIT.fullmatch(object_name)
    if match and match["audit"].startswith(match["day"]):
        return match["audit"], f"{match['part']}.json"
    return object_name, ""


def parse(session_id: str, object_name: str) -> SegmentName | FloorName | None:
    """The parts of a name below `session_prefix`; None for a name that is not Torpor's."""
    prefix = session_prefix(session_id)
    if not object_name.startswith(prefix):
        return None
    if match := _SEGMENT.fullmatch(object_name, len(prefix)):
        return SegmentName(int(match["epoch"]), int(match["start"]), int(match["stop"]), match["digest"])
    if match := _FLOOR.fullmatch(object_name, len(prefix)):
        return FloorName(int(match["epoch"]))
    return None


def _component(value: str) -> str:
    """The value percent-encoded, or its SHA-256 if that is too long. Only the second form has a '='."""
    encoded = quote(value, safe="")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]  # '.' and '..' are not names
    if len(encoded) > _MAX_COMPONENT:
        return "sha256=" + hashlib.sha256(value.encode()).hexdigest()
    return encoded


def _spread(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:2]
