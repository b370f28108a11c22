"""Chat sessions that sleep in Cloud Storage and wake up in Memorystore: the names that an application needs.

| name | what it is for |
| --- | --- |
| `MemorystoreChatMessageHistory` | LangChain's chat history over a session |
| `MemorystoreSession` | the OpenAI Agents SDK's session over a session |
| `MemorystoreSaver` | LangGraph's checkpointer, whose threads are sessions; needs `torpor[langgraph]` |
| `AsyncSessionStore` | any other operation on any session: describe, close, hold it |
| `SessionArchive` | the archive of a deployment, for `archive=`; needs `torpor[archive]` |
| `connect` | a client of Redis or Valkey, with time-outs, retries, TLS and IAM |
| `Client` | the type of every client that is accepted, blocking or asyncio |
| `TokenSource` | the type of an object that gives IAM access tokens, for `connect(iam=...)` |
| `application_default` | IAM tokens of Google's application default credentials; needs `torpor[iam]` |
| `ANY_OWNER` | the owner of whatever session it is, for an `AsyncSessionStore` that works on all |
| `Layout` | how another library stores a session in Redis, for `adopt=` |
| `SessionInfo` | the description of a session, from `info()` |
| `Status` | the state of a session in a `SessionInfo` |
| `LegalHold` | the legal hold in a `SessionInfo` |
| `TorporError` | the root of all errors |
| `TransientError` | the same call can succeed later: `RedisUnavailable`, `RedisMemoryFull` and others |
| `PermanentError` | the call, the data or the deployment must change: all errors below |
| `InvalidArgument` | an argument is wrong, and nothing was sent |
| `ClientMismatch` | a blocking call with an asyncio client |
| `KindMismatch` | the session is a chat and no LangGraph thread, or the reverse |
| `MessageCorrupt` | a stored element is not a message |
| `NotAdoptable` | another library's key is not a conversation |
| `OwnerMismatch` | the session belongs to another owner |
| `OwnerMissing` | the session has messages and no owner, and the call names one |
| `OwnerRequired` | the deployment refuses sessions without an owner |
| `SessionHeld` | the session or its owner is under a legal hold |
| `SessionIncomplete` | a part of the session may be in the archive alone |
| `SessionNotFound` | the session is not in Redis |
| `SessionPurged` | the session was purged, and refuses late writes |

`torpor.history.errors` has the tree of all errors. Each name is loaded when it is first used, so `import torpor` loads
neither LangChain nor Redis, Celery or Google's libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.history.adapters.agents import MemorystoreSession
    from torpor.history.adapters.chat import MemorystoreChatMessageHistory
    from torpor.history.adapters.saver import MemorystoreSaver
    from torpor.history.clients.connect import connect
    from torpor.history.clients.iam import TokenSource, application_default
    from torpor.history.clients.kinds import Client
    from torpor.history.errors import (
        ClientMismatch,
        InvalidArgument,
        KindMismatch,
        MessageCorrupt,
        NotAdoptable,
        OwnerMismatch,
        OwnerMissing,
        OwnerRequired,
        PermanentError,
        RedisMemoryFull,
        RedisUnavailable,
        SessionHeld,
        SessionIncomplete,
        SessionNotFound,
        SessionPurged,
        TorporError,
        TransientError,
    )
    from torpor.history.formats.layout import Layout
    from torpor.history.owners import ANY_OWNER
    from torpor.history.session import LegalHold, SessionInfo, Status
    from torpor.history.store import AsyncSessionStore
    from torpor.worker.wake.session_archive import SessionArchive

__all__ = [
    "ANY_OWNER",
    "AsyncSessionStore",
    "Client",
    "ClientMismatch",
    "InvalidArgument",
    "KindMismatch",
    "Layout",
    "LegalHold",
    "MemorystoreChatMessageHistory",
    "MemorystoreSaver",
    "MemorystoreSession",
    "MessageCorrupt",
    "NotAdoptable",
    "OwnerMismatch",
    "OwnerMissing",
    "OwnerRequired",
    "PermanentError",
    "RedisMemoryFull",
    "RedisUnavailable",
    "SessionArchive",
    "SessionHeld",
    "SessionIncomplete",
    "SessionInfo",
    "SessionNotFound",
    "SessionPurged",
    "Status",
    "TokenSource",
    "TorporError",
    "TransientError",
    "application_default",
    "connect",
]

# The module that defines each name; all other names are errors.
_MODULES = {
    "ANY_OWNER": "torpor.history.owners",
    "AsyncSessionStore": "torpor.history.store",
    "Client": "torpor.history.clients.kinds",
    "Layout": "torpor.history.formats.layout",
    "LegalHold": "torpor.history.session",
    "MemorystoreChatMessageHistory": "torpor.history.adapters.chat",
    "MemorystoreSaver": "torpor.history.adapters.saver",
    "MemorystoreSession": "torpor.history.adapters.agents",
    "SessionArchive": "torpor.worker.wake.session_archive",
    "SessionInfo": "torpor.history.session",
    "Status": "torpor.history.session",
    "TokenSource": "torpor.history.clients.iam",
    "application_default": "torpor.history.clients.iam",
    "connect": "torpor.history.clients.connect",
}
# The extra that a name needs to be imported.
_EXTRAS = {"MemorystoreSaver": "langgraph", "SessionArchive": "archive"}

if not TYPE_CHECKING:  # so that a type checker reports a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a public name from the module that defines it; https://peps.python.org/pep-0562."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            module = import_module(_MODULES.get(name, "torpor.history.errors"))
        except ModuleNotFoundError as exc:
            if name not in _EXTRAS:
                raise
            raise ImportError(f"{name} needs pip install 'torpor[{_EXTRAS[name]}]'", name=exc.name) from None
        value = globals()[name] = getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
