"""The sessions of a deployment in Redis: runs the operations that `calls` describes.

The operations of applications are written once, as coroutines (`SessionOperations`). `SessionStore` has them as
blocking methods, and adds the operations that only the worker needs.
"""

from __future__ import annotations

from typing import Any

from torpor.history.clients.blocking import blocking, blocking_iterator
from torpor.history.errors import InvalidArgument
from torpor.history.ids import DEFAULT_NAMESPACE
from torpor.history.store.adoption import Adopting
from torpor.history.store.any_owner import for_any_owner
from torpor.history.store.archiving import Archiving
from torpor.history.store.ended import EndedInBrowsers
from torpor.history.store.erasure import Erasure
from torpor.history.store.events import Events
from torpor.history.store.expiry import ChangingExpiry
from torpor.history.store.figures import Figures
from torpor.history.store.identity import Identities
from torpor.history.store.legal_holds import LegalHolds
from torpor.history.store.owners import Owners
from torpor.history.store.reading import Reading
from torpor.history.store.repacking import Repacking
from torpor.history.store.repair import Repair
from torpor.history.store.returning import Returning
from torpor.history.store.runner import Runner
from torpor.history.store.single_calls import SingleCalls
from torpor.history.store.work_lock import WorkLock, WorkLocks

__all__ = ["AsyncSessionStore", "SessionOperations", "SessionStore", "WorkLock"]


class SessionOperations(SingleCalls, Reading, ChangingExpiry, Adopting, Returning):
    """The operations of applications on sessions, as coroutines over any client."""


class AsyncSessionStore(SessionOperations):
    """The sessions of one deployment, with an asyncio client. Nothing is sent before the first operation.

    Each operation is one atomic round trip (a Lua script on one hash slot) unless it says otherwise. All of them can
    raise RedisUnavailable, RedisMemoryFull and RedisRefused; each names the other errors that it can raise.
    """

    def __init__(self, client: Any, *, namespace: str = DEFAULT_NAMESPACE, shards: int | None = None) -> None:
        """Arguments as for SessionStore; raises InvalidArgument for a blocking client."""
        super().__init__(Runner(client, namespace=namespace, shards=shards))
        if not self.runner.asynchronous:
            raise InvalidArgument(f"{type(client).__module__} is a blocking client; this store needs one of asyncio")


class SessionStore(
    SingleCalls,
    Figures,
    Archiving,
    Erasure,
    WorkLocks,
    LegalHolds,
    Owners,
    Repair,
    Repacking,
    Events,
    EndedInBrowsers,
    Identities,
):
    """The sessions of one deployment, with a blocking client. Nothing is sent before the first operation.

    It is for workers and operators: its operations are for sessions of any owner, unless they are told whose (`owner`).
    Each operation is one atomic round trip (a Lua script on one hash slot) unless it says otherwise. All of them can
    raise RedisUnavailable, RedisMemoryFull and RedisRefused; each names the other errors that it can raise. Safe to
    share among threads, as redis-py's clients are.
    """

    def __init__(
        self, client: Any, *, namespace: str = DEFAULT_NAMESPACE, shards: int | None = None, resends: bool = True
    ) -> None:
        """Arguments as for Runner; raises InvalidArgument for an asyncio client."""
        super().__init__(client, namespace=namespace, shards=shards, resends=resends)
        self.operations = SessionOperations(self)

    messages = for_any_owner(blocking(Reading.messages))
    pages = for_any_owner(blocking_iterator(Reading.pages))
    update = for_any_owner(blocking(ChangingExpiry.update))
    adopt = for_any_owner(blocking(Adopting.adopt))
    finish_adoption = blocking(Adopting.finish_adoption)
    adoptable = for_any_owner(blocking(Adopting.adoptable))
    give_back = blocking(Returning.give_back)
