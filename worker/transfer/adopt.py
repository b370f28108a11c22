"""Adopt: takes over the sessions of other libraries, in bulk."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
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

# Keys that are adopted together.
BATCH = 500
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

    `planned` has the sessions that a dry run would adopt, by their ids. `gone` counts the keys that were there in the
    walk, and not any more when their turn came: somebody else has adopted them, or the walk gave them twice.
    """

    sessions: int = 0
    messages: int = 0
    gone: int = 0
    left: dict[str, Left] = field(default_factory=dict)
    planned: dict[str, Adoptable] = field(default_factory=dict)

    @property
    def converted(self) -> dict[str, int]:
        """The kinds of messages that a dry run would convert, each with how many there are."""
        return dict(sum((Counter(found.converted) for found in self.planned.values()), Counter[str]()))

    def add(self, layout: Layout, key: bytes, outcome: int | Adoptable | PermanentError) -> None:
        """Count a key: `outcome` is how many messages were moved, what would be moved, or why none were.

        Keys of Torpor and of Celery are nobody's sessions, and are not counted if they can't be adopted.
        """
        if isinstance(outcome, Adoptable):
            session_id = layout.session_id(key)
            moved = 0 if session_id in self.planned else outcome.total
            self.planned[session_id] = outcome
            self.sessions += moved > 0
            self.messages += moved
            return
        if isinstance(outcome, int):
            self.sessions += outcome > 0
            self.messages += outcome
            self.gone += outcome == 0
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
    progress: Callable[[int], None] = lambda _: None,
    wait: Callable[[], None] = lambda: None,
) -> Adopted:
    """Adopt another library's sessions whose ids match a glob-style pattern, as Redis's KEYS has it.

    Repeatable, also while that library goes on writing. Unfinished adoptions come first. Walks the key space, and works
    at Redis's memory limit. A key that is no conversation, or that is another format's, is left unchanged. So is one of
    whose session `owners` says nothing, or another owner than Redis or the archive has. `progress` is called after each
    key with the number of adopted sessions, and `wait` before it.

    Remembers no keys. A key that the walk gives twice, because Redis's table of keys grew or shrank meanwhile, is gone
    at the second time, unless it was left: then it counts twice.
    """
    adopted = Adopted()
    adopter = Adopter(services, layout, expiry, owners, dry_run)
    keys = services.sessions.adoptable_keys(layout, match)
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while batch := list(islice(keys, BATCH)):
            for key, outcome in adopter.adopt_all(pool, batch, wait):
                adopted.add(layout, key, outcome)
                progress(adopted.sessions)
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
class Adopter:
    """Adopts sessions by one rule."""

    services: Services
    layout: Layout
    expiry: Expiry
    owners: OwnerRule
    dry_run: bool

    def adopt_all(
        self, pool: Executor, keys: Iterable[bytes], wait: Callable[[], None]
    ) -> Iterator[tuple[bytes, int | Adoptable | PermanentError]]:
        """Adopt the sessions of keys, each once, and yield what became of each; `wait` is called before each one."""
        fresh = list(dict.fromkeys(keys))

        def one(key: bytes) -> int | Adoptable | PermanentError:
            wait()
            return self.adopt(key)

        return zip(fresh, pool.map(one, fresh), strict=True)

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
