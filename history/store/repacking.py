"""Gives the messages of a session another stored form: compressed, or plain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torpor.history import calls
from torpor.history.compression import Compression, repacked
from torpor.history.elements import is_record
from torpor.history.outcomes import Repacked
from torpor.history.owners import ANY_OWNER
from torpor.history.session import Page
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.progress import check_page
from torpor.history.store.reading import PAGE_BYTES

# A session that changes its epoch meanwhile, or whose messages come back from the archive, is walked again so often.
_WALKS = 5
# So many messages are replaced at once: Redis looks for each position.
_AT_ONCE = 100


class Repacking(BlockingRunner):
    """Rewrites how Redis has messages, and nothing else of a session."""

    def repack(self, session_id: str, compression: Compression, *, dry_run: bool = False) -> Repacked:
        """Give a chat's messages the form that a setting asks for, page by page; a thread stays as it is.

        Repeatable, and killed at any moment it leaves a right session. Raises DictionaryUnknown and RedisMemoryFull.
        """
        walk = _Walk(self, session_id, compression, dry_run)
        changed = True
        for _ in range(_WALKS):
            if not (changed := not walk.through()):
                break
        return Repacked(walk.messages, walk.damaged, walk.size + walk.saved, walk.size, changed)


@dataclass
class _Walk:
    """Walks through a session. `messages` and `saved` count all walks, `damaged` and `size` the last one."""

    store: BlockingRunner
    session_id: str
    compression: Compression
    dry_run: bool
    messages: int = 0
    saved: int = 0
    damaged: int = 0
    size: int = 0

    def through(self) -> bool:
        """Walk to the end; False if positions have shifted meanwhile."""
        self.damaged = self.size = 0
        start, state = 0, None
        while page := self._read(start):
            if state not in (None, page.state):
                return False
            check_page(self.session_id, start, None, page)
            if not page.messages or is_record(page.messages[0]):
                break
            if not self._repack(page):
                return False
            if page.reaches(None):
                break
            start, state = page.stop, page.state
        return True

    def _read(self, start: int) -> Page | None:
        deployment = self.store.deployment
        return self.store.run(
            calls.read(deployment, self.session_id, start, None, PAGE_BYTES, touch=False, owner=ANY_OWNER, stored=True)
        )

    def _repack(self, page: Page) -> bool:
        changes = []
        for position, stored in enumerate(page.messages, page.start):
            new = repacked(stored, self.compression)
            self.size += len(stored)
            if new is None:
                self.damaged += 1
            elif new != stored:
                changes.append((position, stored, new))
        return all(self._replace(changes[at : at + _AT_ONCE]) for at in range(0, len(changes), _AT_ONCE))

    def _replace(self, changes: Sequence[tuple[int, bytes, bytes]]) -> bool:
        if not self.dry_run:
            done = self.store.run(calls.repack(self.store.deployment, self.session_id, changes))
            if done < len(changes):
                return False
        saved = sum(len(read) - len(new) for _, read, new in changes)
        self.messages += len(changes)
        self.saved += saved
        self.size -= saved
        return True
