"""Chat sessions that sleep in Cloud Storage and wake up in Memorystore: what an application imports.

Each name is loaded when it is first used, so that `import torpor` loads neither LangChain nor Celery.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torpor.history.adapters.agents import MemorystoreSession
    from torpor.history.adapters.chat import MemorystoreChatMessageHistory
    from torpor.history.clients.connect import connect
    from torpor.history.clients.iam import IamCredentialProvider, TokenSource, application_default
    from torpor.history.errors import (
        ClientMismatch,
        InvalidArgument,
        MessageCorrupt,
        MessageNotSerializable,
        NotAdoptable,
        OwnerMismatch,
        PermanentError,
        RedisMemoryFull,
        RedisRefused,
        RedisUnavailable,
        SessionHeld,
        SessionIncomplete,
        SessionNotFound,
        SessionPurged,
        TorporError,
        TransientError,
    )
    from torpor.history.layout import LAYOUTS, Layout
    from torpor.history.session import LegalHold, SessionInfo, Status
    from torpor.worker.wake.session_archive import SessionArchive

_HOMES = {
    "torpor.history.adapters.agents": ["MemorystoreSession"],
    "torpor.history.adapters.chat": ["MemorystoreChatMessageHistory"],
    "torpor.history.clients.connect": ["connect"],
    "torpor.history.clients.iam": ["IamCredentialProvider", "TokenSource", "application_default"],
    "torpor.history.errors": [
        "ClientMismatch",
        "InvalidArgument",
        "MessageCorrupt",
        "MessageNotSerializable",
        "NotAdoptable",
        "OwnerMismatch",
        "PermanentError",
        "RedisMemoryFull",
        "RedisRefused",
        "RedisUnavailable",
        "SessionHeld",
        "SessionIncomplete",
        "SessionNotFound",
        "SessionPurged",
        "TorporError",
        "TransientError",
    ],
    "torpor.history.layout": ["LAYOUTS", "Layout"],
    "torpor.history.session": ["LegalHold", "SessionInfo", "Status"],
    "torpor.worker.wake.session_archive": ["SessionArchive"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "LAYOUTS",
    "ClientMismatch",
    "IamCredentialProvider",
    "InvalidArgument",
    "Layout",
    "LegalHold",
    "MemorystoreChatMessageHistory",
    "MemorystoreSession",
    "MessageCorrupt",
    "MessageNotSerializable",
    "NotAdoptable",
    "OwnerMismatch",
    "PermanentError",
    "RedisMemoryFull",
    "RedisRefused",
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


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it; https://peps.python.org/pep-0562."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
