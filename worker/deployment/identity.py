"""Whether Redis and the archive belong to one deployment: both have its id, and Redis has the archive's URL.

A first use gives the id to Redis, then to the archive, and records the URL in Redis last. So a first use that was
killed is finished by the next one, and two deployments never get the same archive.

Two Redises can have the same id and URL: a copy, or one that was restored from a backup. The archive's token of the
fence tells which one uses it (see torpor.worker.deployment.fence).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from torpor.history.protocol import Identity, InvalidArgument, SessionStore
from torpor.worker.archive import ownership
from torpor.worker.archive.ownership import ArchiveIdentity
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.errors import ArchiveConflict, DeploymentMismatch
from torpor.worker.failpoints import Failpoint, reach

_ID = re.compile(r"[0-9a-f]{32}")
_CHECK_BOTH = "Check TORPOR_REDIS_URL and TORPOR_ARCHIVE_URL."
_MOVED = (
    "If the archive has moved: torpor deployment move-archive. "
    "If both are copies, such as for staging: torpor deployment fork"
)
_OTHER = f"{_CHECK_BOTH} If both are right, Redis was lost or replaced: torpor deployment recover"
_BEHIND = (
    "If this Redis was restored from a backup: torpor deployment recover. "
    "If it is a copy, such as for staging: copy the archive too, then torpor deployment fork"
)
_SEE = f"{_CHECK_BOTH} torpor deployment shows both sides."
_ELSEWHERE = "Redis has recorded where its archive is. Check TORPOR_ARCHIVE_URL."
_NO_IDS = (
    f"{_CHECK_BOTH} If both are right, Redis was lost or replaced, or workers of an older version have recorded "
    "nothing there: torpor deployment recover"
)


class State(StrEnum):
    """Whether two sides belong together."""

    AGREE = "agree"
    NEW = "new"  # both may be used together for the first time
    DISAGREE = "disagree"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What Redis and the archive say about their deployment. `way_out` is for sides that disagree."""

    namespace: str
    redis: Identity
    archive: ArchiveIdentity
    state: State
    way_out: str = ""

    def check(self) -> None:
        """Raise DeploymentMismatch, which names both sides and the way out, if they disagree."""
        if self.archive.namespace not in (None, self.namespace):
            raise ownership.taken(self.archive.url, self.namespace)
        if self.state is State.DISAGREE:
            raise DeploymentMismatch(f"Redis and the archive do not belong together. {self.sides()} {self.way_out}")

    def sides(self) -> str:
        """Both sides in words, a sentence for each."""
        there = f"The archive {self.archive.url} is of {_named(self.archive.deployment)}."
        return " ".join([_side(self.redis, self.namespace), there, *self._moved()])

    @property
    def is_behind(self) -> bool:
        """True if another Redis has moved the archive's fence, of which this one knows nothing."""
        return _is_behind(self.redis, self.archive)

    def is_outdated(self, redis: Identity) -> bool:
        """True if both sides may disagree only because Redis, now `redis`, was changed after it was compared."""
        return self.state is State.DISAGREE and self.redis != redis

    def _moved(self) -> Iterator[str]:
        if self.is_behind and self.archive.fence:
            moved_at = self.archive.fence.moved_at
            when = f" at {moved_at.isoformat(timespec='seconds')}" if moved_at else ""
            yield f"Another Redis has moved the archive's fence{when}."


def compare(redis: Identity, namespace: str, archive: ArchiveStore) -> Comparison:
    """Compare what Redis has recorded with the archive; changes nothing.

    Raises ArchiveMisconfigured if the archive that Redis knows is missing.
    """
    there = ownership.read(archive)
    state = _state(redis, namespace, there, archive)
    if state is State.DISAGREE and there.deployment is None and redis.archive == archive.url:
        archive.check()
    return Comparison(namespace, redis, there, state, _way_out(redis, there))


def compare_sides(sessions: SessionStore, archive: ArchiveStore) -> Comparison:
    """As `compare`, for what Redis has recorded now."""
    while True:
        found = compare(sessions.identity(), sessions.namespace, archive)
        if not found.is_outdated(sessions.identity()):
            return found


def check(sessions: SessionStore, archive: ArchiveStore) -> Comparison:
    """Make sure that both sides belong together, or may; changes nothing.

    Raises DeploymentMismatch, and ArchiveMisconfigured if the archive is missing.
    """
    found = compare_sides(sessions, archive)
    found.check()
    if found.state is State.NEW:
        archive.check()
    return found


def check_first_use(sessions: SessionStore, archive: ArchiveStore) -> None:
    """As `make`, but changes nothing: for the dry run of a command that may be the first use."""
    compare_sides(sessions, archive).check()


def require(sessions: SessionStore, archive: ArchiveStore) -> None:
    """As `check`, but also raises DeploymentMismatch if both sides were never used together.

    For commands whose answer is wrong if the archive is the wrong one: who has lost Redis and mistypes the archive's
    URL must not be told that nothing is left to erase.
    """
    found = check(sessions, archive)
    if found.state is State.NEW:
        is_older = found.redis.configured and found.archive.namespace is not None
        why = "An older version made this deployment, which has no id" if is_older else "They were not used together"
        raise DeploymentMismatch(f"{found.sides()} {why} yet. Start a worker first: torpor worker")


def make(sessions: SessionStore, archive: ArchiveStore) -> Identity:
    """Make sure that both sides belong together; the first use gives them an id. Repeatable.

    Of two first uses at once, one continues what the other has begun, or is refused. Raises DeploymentMismatch.
    """
    while (found := compare_sides(sessions, archive)).state is State.NEW:
        if found.redis.deployment is None:
            sessions.identify(found.redis, new_id(), None)
            reach(Failpoint.DEPLOYMENT_NAMED)
        elif found.archive.deployment is None:
            with suppress(ArchiveConflict):  # compared again
                ownership.write(archive, found.archive, found.namespace, found.redis.deployment)
            reach(Failpoint.DEPLOYMENT_WRITTEN)
        else:
            sessions.identify(found.redis, found.redis.deployment, archive.url)
    found.check()
    return found.redis


def check_recorded(sessions: SessionStore, archive_url: str) -> None:
    """Make sure that Redis knows no other archive; asks Redis alone, for what must work while the archive is down."""
    redis = sessions.identity()
    if redis.archive not in (None, archive_url):
        raise DeploymentMismatch(f"{_side(redis, sessions.namespace)} TORPOR_ARCHIVE_URL is {archive_url}. {_SEE}")


def new_id() -> str:
    """An id for a deployment: 128 random bits."""
    return secrets.token_hex(16)


def check_id(deployment: str) -> str:
    """The id itself, if a deployment may have it; raises InvalidArgument."""
    if not _ID.fullmatch(deployment):
        raise InvalidArgument("the id of a deployment is 32 digits from 0 to 9 and a to f")
    return deployment


def _state(redis: Identity, namespace: str, there: ArchiveIdentity, archive: ArchiveStore) -> State:
    if there.namespace not in (None, namespace):
        return State.DISAGREE
    if redis.deployment == there.deployment and _is_behind(redis, there):
        return State.DISAGREE
    if redis.archive is not None:
        agree = (redis.deployment, redis.archive) == (there.deployment, there.url)
        return State.AGREE if agree else State.DISAGREE
    if there.deployment is not None:
        return State.NEW if redis.deployment == there.deployment else State.DISAGREE
    return State.NEW if _may_begin(redis, there, archive) else State.DISAGREE


def _way_out(redis: Identity, there: ArchiveIdentity) -> str:
    if redis.deployment is not None and redis.deployment == there.deployment:
        return _MOVED if redis.archive not in (None, there.url) else _BEHIND
    if there.deployment is None and redis.archive not in (None, there.url):
        return _ELSEWHERE
    return _NO_IDS if there.deployment is redis.deployment is None else _OTHER


def _is_behind(redis: Identity, there: ArchiveIdentity) -> bool:
    return there.fence is not None and not redis.has_token(there.fence.token)


def _may_begin(redis: Identity, there: ArchiveIdentity, archive: ArchiveStore) -> bool:
    """True if an archive without an id may get the one of this Redis: no other Redis has used it.

    A deployment of an older version gets its id here. Its workers have recorded their configuration in Redis, and their
    namespace in the archive.
    """
    return there.namespace is not None if redis.configured else not ownership.is_used(archive)


def _side(redis: Identity, namespace: str) -> str:
    recorded = f" and has recorded the archive {redis.archive}" if redis.archive else ""
    return f"Redis {redis.redis}, namespace {namespace!r}, is of {_named(redis.deployment)}{recorded}."


def _named(deployment: str | None) -> str:
    return f"deployment {deployment}" if deployment else "no deployment"
