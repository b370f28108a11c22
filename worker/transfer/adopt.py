"""Adopt: takes over the sessions of other libraries, in bulk."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

from torpor.history.protocol import (
    ANY_OWNER,
    Adoptable,
    Caller,
    Expiry,
    Layout,
    NotAdoptable,
    OwnerMismatch,
    PermanentError,
    SessionPurged,
    is_celerys,
    looks_like_torpors,
)
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.transfer.owner_rule import OwnerRule

log = logging.getLogger("torpor.adopt")

_BATCH = 500
_REASONS: dict[type[PermanentError], str] = {
    SessionPurged: "its session was purged",
    OwnerMismatch: "its session belongs to another owner",
}


@dataclass(frozen=True, slots=True)
class Left:
    """How many keys were left unchanged for one reason, and one of them."""

    count: int
    example: str


@dataclass(slots=True)
class Adopted:
    """The counts of an adoption in bulk, done or planned. `left` has a reason -> the keys left unchanged for it.

    `planned` has the sessions that a dry run would adopt, by their ids.
    """

    sessions: int = 0
    messages: int = 0
    left: dict[str, Left] = field(default_factory=dict)
    planned: dict[str, Adoptable] = field(default_factory=dict)

    @property
    def converted(self) -> dict[str, int]:
        """The kinds of messages that a dry run would convert, each with how many there are."""
        return dict(sum((Counter(found.converted) for found in self.planned.values()), Counter[str]()))

    def plan(self, session_id: str, found: Adoptable) -> None:
        """Count a session that would be adopted."""
        self.planned[session_id] = found
        self.add(b"", found.total)

    def add(self, key: bytes, outcome: int | PermanentError) -> None:
        """Count a key: `outcome` is how many messages were moved, or why none were.

        Keys of Torpor and of Celery are nobody's sessions, and are not counted if they can't be adopted.
        """
        if isinstance(outcome, int):
            self.sessions += outcome > 0
            self.messages += outcome
            return
        if isinstance(outcome, NotAdoptable) and (looks_like_torpors(key) or is_celerys(key)):
            return
        reason = outcome.reason if isinstance(outcome, NotAdoptable) else _REASONS[type(outcome)]
        before = self.left.get(reason, Left(0, key.decode(errors="replace")))
        self.left[reason] = replace(before, count=before.count + 1)


def adopt(
    services: Services,
    layout: Layout,
    match: str,
    *,
    expiry: Expiry = Expiry(),  # noqa: B008 - frozen
    owners: OwnerRule = OwnerRule(),  # noqa: B008 - frozen
    dry_run: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Adopted:
    """Adopt another library's sessions whose ids match a glob-style pattern, as Redis's KEYS has it.

    Repeatable, also while that library goes on writing. Unfinished adoptions come first. Walks the key space, and works
    at Redis's memory limit. A key that is no conversation, or that is another format's, is left unchanged. So is one of
    whose session `owners` says nothing, or another owner than Redis or the archive has. `progress` is called after each
    key.
    """
    adopted = Adopted()
    seen: set[bytes] = set()
    keys = services.sessions.adoptable_keys(layout, match)
    one = _Adopter(services, layout, expiry, owners, dry_run).adopt
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while batch := list(islice(keys, _BATCH)):
            fresh = list(dict.fromkeys(key for key in batch if key not in seen))
            seen.update(fresh)
            for key, outcome in zip(fresh, pool.map(one, fresh), strict=True):
                if isinstance(outcome, Adoptable):
                    adopted.plan(layout.session_id(key), outcome)
                else:
                    adopted.add(key, outcome)
                progress()
    return adopted


def finish(services: Services, session_id: str | None = None) -> None:
    """Finish interrupted adoptions, all or one session's: messages that they have taken are not in the session yet."""
    for adoption in services.sessions.adoptions():
        if session_id in (None, adoption.session_id):
            try:
                services.sessions.finish_adoption(adoption)
            except PermanentError as error:
                log.warning("the adoption of session %r is not finished: %s", adoption.session_id, error)


@dataclass(frozen=True, slots=True)
class _Adopter:
    """Adopts one session after the other."""

    services: Services
    layout: Layout
    expiry: Expiry
    owners: OwnerRule
    dry_run: bool

    def adopt(self, key: bytes) -> int | Adoptable | PermanentError:
        """Adopt the session of a key, or show it; an error says why not."""
        sessions, layout = self.services.sessions, self.layout
        try:
            session_id = layout.session_id(key)
            owner, max_bytes = self._owner(session_id, key), self.services.settings.max_message_bytes
            if self.dry_run:
                return sessions.adoptable(session_id, layout, owner=owner, max_bytes=max_bytes) or 0
            return sessions.adopt(session_id, layout, expiry=self.expiry, owner=owner, max_bytes=max_bytes)
        except (NotAdoptable, OwnerMismatch, SessionPurged) as error:
            return error

    def _owner(self, session_id: str, key: bytes) -> Caller:
        """The owner that the rule names; raises NotAdoptable if it names none, and OwnerMismatch."""
        if not self.owners:
            return ANY_OWNER
        owner = self.owners.owner(session_id)
        if owner is None:
            raise NotAdoptable(key, "its id does not match the pattern of owners")
        if contents.look(self.services.archive, session_id).owners - {owner}:
            raise OwnerMismatch(f"the archive has session {session_id!r} for another owner than {owner!r}")
        return owner
