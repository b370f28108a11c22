"""Compares the counts of sessions by kind with the sessions that are in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice

from torpor.history.protocol import PermanentError, SessionInfo, SessionKind, SessionStore
from torpor.worker.ops.finding import Ailment, Finding

_PAGE = 500
# A shard in which sessions come and go while its sessions are counted is counted again, so often at most.
_TRIES = 5


def examine(sessions: SessionStore, *, repair: bool) -> Iterator[Finding]:
    """Yield a finding for the shards whose counts are wrong; with `repair`, correct them first.

    They are wrong if sessions are older than the counts, or if keys were deleted by hand. Walks the index while
    applications and workers go on. A shard in which sessions come and go all the time is left as it is.
    """
    is_counted = sessions.kinds_counted()
    wrong, left = 0, 0
    for shard in range(sessions.deployment.keyspace.shards):
        try:
            settled = _settle(sessions, shard, repair=repair)
        except PermanentError:  # the doctor says which key is wrong
            settled = None
        wrong += settled is False
        left += settled is None
    if repair and not left and not is_counted:
        sessions.note_kinds_counted()
    if wrong or left or not is_counted:
        detail = f"{wrong:,} shards" + (f"; {left:,} could not be counted now" if left else "")
        yield Finding(None, Ailment.KINDS_MISCOUNTED, repaired=repair and not left, detail=detail)


def _settle(sessions: SessionStore, shard: int, *, repair: bool) -> bool | None:
    """True if the counts were right, False if they were wrong, and None if sessions came and went all the time."""
    for _ in range(_TRIES):
        before = sessions.kinds(shard)
        there = _count(sessions, shard)
        if sessions.kinds(shard) != before:
            continue
        if there == before.there():
            return True
        if not repair or sessions.set_kinds(shard, before, *there):
            return False
    return None


def _count(sessions: SessionStore, shard: int) -> tuple[int, int]:
    """The chats and the threads of a shard."""
    indexed = chain.from_iterable(sessions.sessions(quarantined=apart, shards=[shard]) for apart in (False, True))
    kinds: Counter[SessionKind | None] = Counter()
    each = iter(dict.fromkeys(indexed))
    while page := list(islice(each, _PAGE)):
        kinds.update(info.kind for info in sessions.infos(page) if isinstance(info, SessionInfo))
    return kinds[SessionKind.CHAT], kinds[SessionKind.THREAD]
