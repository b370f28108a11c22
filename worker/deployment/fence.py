"""The fence, which tells the Redis that uses an archive from a copy or a restored backup of it.

Redis has the last few tokens of the fence, and the archive has one. The archive's token must be one of Redis's tokens;
an archive without a token is open. Once a minute a worker moves the fence: it gives the archive the newest token of
Redis, and then Redis the next one. So the archive only has tokens that are at least a minute old, and a failover that
loses the last seconds of writes is not refused. A Redis that was restored from an older backup lacks the archive's
token, and so does a copy once the other one has moved the fence.

Each of the two steps changes only what it has seen: whoever is late changes nothing, and compares again.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from torpor.history.protocol import Identity, SessionStore
from torpor.worker.archive import ownership
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.deployment.identity import Comparison, compare_sides
from torpor.worker.errors import DeploymentMismatch
from torpor.worker.failpoints import Failpoint, reach

_STEP = timedelta(minutes=1)
# A process that has worked in the last quarter of an hour finds the token that it saw then.
_KEPT = 16
_TRIES = 5
# Another Redis that moved the fence this long ago is at work, or was a moment ago.
_IN_USE = timedelta(minutes=5)


def move(sessions: SessionStore, archive: ArchiveStore) -> bool:
    """Move the fence if its newest token is a minute old; False if there is nothing to do, or others do it.

    Repeatable; harmless if several workers do it at once. Raises DeploymentMismatch if this Redis is not the one that
    uses the archive, ArchiveUnavailable, and ArchiveRefused if the archive's objects may not be amended.
    """
    for _ in range(_TRIES):
        if not _is_due(sessions.identity()):
            return False
        found = compare_sides(sessions, archive)
        found.check()
        if _is_due(found.redis) and _give(archive, found):
            reach(Failpoint.FENCE_GIVEN)
            return sessions.move_fence(found.redis.newest_token, _new_token(), keep=_KEPT)
    return False


def claim(sessions: SessionStore, archive: ArchiveStore) -> None:
    """Give the archive this Redis's newest token, in place of the token that another Redis gave it. Repeatable.

    Raises DeploymentMismatch if others keep moving it.
    """
    for _ in range(_TRIES):
        found = compare_sides(sessions, archive)
        if found.redis.newest_token is None:
            sessions.move_fence(None, _new_token(), keep=_KEPT)
        elif _give(archive, found):
            return
    raise DeploymentMismatch(f"{found.sides()} Another Redis moves the fence again and again: it uses the archive.")


def check_unused(found: Comparison) -> None:
    """Raise DeploymentMismatch if another Redis has moved the archive's fence a moment ago, by this Redis's clock."""
    fence, now = found.archive.fence, found.redis.read_at
    if not found.is_behind or fence is None or fence.moved_at is None or now is None:
        return
    ago = abs(now - fence.moved_at)
    if ago < _IN_USE:
        raise DeploymentMismatch(
            f"{found.sides()} That was {ago.total_seconds():.0f} seconds ago, so it uses the archive. "
            f"Stop its workers, and wait for {_IN_USE.total_seconds() / 60:.0f} minutes. "
            "If it does not exist any more: --force"
        )


def check_copy(found: Comparison) -> None:
    """Raise DeploymentMismatch if the archive is an older copy of the one that Redis has used, by its token.

    A copy keeps the token that the original had. The original has the newest token but one, or the newest one if a
    worker died when it had moved the fence.
    """
    fence, tokens = found.archive.fence, found.redis.fence
    if fence is None and len(tokens) <= 1:
        return
    if fence is not None and fence.token in [each.token for each in tokens[-2:]]:
        return
    theirs = _named(fence.token, fence.moved_at) if fence else "none"
    ours = _named(tokens[-1].token, tokens[-1].since) if tokens else "none"
    raise DeploymentMismatch(
        f"{found.sides()} The archive is an old copy: its token of the fence is {theirs}, the newest one of Redis is "
        f"{ours}. What was archived since may be missing. "
        "Copy the archive again. If the original is gone: --force"
    )


def _named(token: str, since: datetime | None) -> str:
    return f"{token} of {since.isoformat(timespec='seconds')}" if since else token


def _is_due(redis: Identity) -> bool:
    """True for the first token, and if the newest one is a minute old, or ahead because the clock was set back."""
    if redis.archive is None or redis.read_at is None:
        return False  # a first use is not finished
    if not redis.fence:
        return True
    return abs(redis.read_at - redis.fence[-1].since) >= _STEP


def _give(archive: ArchiveStore, found: Comparison) -> bool:
    """Give the archive the newest token of Redis, if there is one; False if the archive has changed meanwhile."""
    token, fence = found.redis.newest_token, found.archive.fence
    if token is None or found.redis.read_at is None or (fence and fence.token == token):
        return True
    return ownership.move_fence(archive, found.archive, token, found.redis.read_at)


def _new_token() -> str:
    return secrets.token_hex(8)
