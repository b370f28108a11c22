"""Chat sessions in Memorystore that sleep in Cloud Storage: what an application imports."""

from history.calls import KEEP
from history.chat import MemorystoreChatMessageHistory
from history.codec import decode as decode_message
from history.codec import encode as encode_message
from history.errors import (
    InvalidArgument,
    InvalidExpiry,
    InvalidSessionId,
    MessageCorrupt,
    MessageNotSerializable,
    OwnerMismatch,
    PermanentError,
    RedisMemoryFull,
    RedisRefused,
    RedisUnavailable,
    SessionExists,
    SessionNotFound,
    ShardCountMismatch,
    StagingLost,
    TorporError,
    TransientError,
)
from history.keys import DEFAULT_NAMESPACE, MAX_SHARDS, check_namespace
from history.session import (
    CommitOutcome,
    Expiry,
    Lease,
    Origin,
    Page,
    RestoreTicket,
    SeizeOutcome,
    SessionInfo,
    ShardOverview,
    Status,
    SwapOutcome,
)
from history.store import SessionStore, check_session_id

__all__ = [
    "DEFAULT_NAMESPACE",
    "KEEP",
    "MAX_SHARDS",
    "CommitOutcome",
    "Expiry",
    "InvalidArgument",
    "InvalidExpiry",
    "InvalidSessionId",
    "Lease",
    "MemorystoreChatMessageHistory",
    "MessageCorrupt",
    "MessageNotSerializable",
    "Origin",
    "OwnerMismatch",
    "Page",
    "PermanentError",
    "RedisMemoryFull",
    "RedisRefused",
    "RedisUnavailable",
    "RestoreTicket",
    "SeizeOutcome",
    "SessionExists",
    "SessionInfo",
    "SessionNotFound",
    "SessionStore",
    "ShardCountMismatch",
    "ShardOverview",
    "StagingLost",
    "Status",
    "SwapOutcome",
    "TorporError",
    "TransientError",
    "check_namespace",
    "check_session_id",
    "decode_message",
    "encode_message",
]
