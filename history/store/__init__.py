"""SessionStore: runs each operation of `calls` on a Redis client."""

from history.keys import check_session_id
from history.store.application import Application
from history.store.archiving import Archiving
from history.store.erasure import Erasure, PurgeLock
from history.store.events import Events
from history.store.holding import Holding
from history.store.index import Index
from history.store.repair import Repair
from history.store.restoring import Restoring

__all__ = ["PurgeLock", "SessionStore", "check_session_id"]


class SessionStore(Application, Index, Archiving, Restoring, Erasure, Holding, Repair, Events):
    """The sessions of one deployment in Redis. No call but `configure` is made before the first operation.

    Each operation is one atomic round trip (a Lua script on one hash slot) unless it says otherwise.
    All raise RedisUnavailable or RedisMemoryFull, which may pass, or RedisRefused; every other error is named
    where it can occur. Safe to share among threads, as redis-py's clients are.
    """
