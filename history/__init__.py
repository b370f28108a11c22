"""Chat sessions in Memorystore that sleep in Cloud Storage: what an application imports."""

from torpor.history.adapters.agents import MemorystoreSession
from torpor.history.adapters.chat import MemorystoreChatMessageHistory
from torpor.history.adoption import Adoption
from torpor.history.calls import KEEP
from torpor.history.clients.blocking import run_sync
from torpor.history.clients.connect import connect
from torpor.history.clients.iam import IamCredentialProvider, TokenSource, application_default
from torpor.history.clients.kinds import Client
from torpor.history.codec import decode as decode_message
from torpor.history.codec import encode as encode_message
from torpor.history.codec import parse as parse_json
from torpor.history.conversation import Archive
from torpor.history.errors import (
    ClientMismatch,
    InvalidArgument,
    InvalidExpiry,
    InvalidOwner,
    InvalidReason,
    InvalidSessionId,
    MessageCorrupt,
    MessageNotSerializable,
    NotAdoptable,
    OwnerMismatch,
    PermanentError,
    PoliciesUnreadable,
    RedisMemoryFull,
    RedisRefused,
    RedisUnavailable,
    SessionDamaged,
    SessionExists,
    SessionHeld,
    SessionIncomplete,
    SessionNotFound,
    SessionPurged,
    ShardCountMismatch,
    StagingLost,
    TorporError,
    TranscriptChanged,
    TransientError,
)
from torpor.history.keys import DEFAULT_NAMESPACE, MAX_SHARDS, check_namespace, check_owner, check_session_id
from torpor.history.layout import LAYOUTS, Layout
from torpor.history.policy import Policies
from torpor.history.session import (
    ClaimOutcome,
    CommitOutcome,
    EraseOutcome,
    Expiry,
    HoldOutcome,
    IndexOutcome,
    Lease,
    LegalHold,
    Origin,
    Page,
    PurgeOutcome,
    PurgeTarget,
    Purging,
    RebuiltMetadata,
    RestoreEnd,
    RestoreRefusal,
    RestoreTicket,
    SessionInfo,
    ShardOverview,
    ShardPoll,
    Status,
)
from torpor.history.store import AsyncSessionStore, PurgeLock, SessionOperations, SessionStore

__all__ = [
    "DEFAULT_NAMESPACE",
    "KEEP",
    "LAYOUTS",
    "MAX_SHARDS",
    "Adoption",
    "Archive",
    "AsyncSessionStore",
    "ClaimOutcome",
    "Client",
    "ClientMismatch",
    "CommitOutcome",
    "EraseOutcome",
    "Expiry",
    "HoldOutcome",
    "IamCredentialProvider",
    "IndexOutcome",
    "InvalidArgument",
    "InvalidExpiry",
    "InvalidOwner",
    "InvalidReason",
    "InvalidSessionId",
    "Layout",
    "Lease",
    "LegalHold",
    "MemorystoreChatMessageHistory",
    "MemorystoreSession",
    "MessageCorrupt",
    "MessageNotSerializable",
    "NotAdoptable",
    "Origin",
    "OwnerMismatch",
    "Page",
    "PermanentError",
    "Policies",
    "PoliciesUnreadable",
    "PurgeLock",
    "PurgeOutcome",
    "PurgeTarget",
    "Purging",
    "RebuiltMetadata",
    "RedisMemoryFull",
    "RedisRefused",
    "RedisUnavailable",
    "RestoreEnd",
    "RestoreRefusal",
    "RestoreTicket",
    "SessionDamaged",
    "SessionExists",
    "SessionHeld",
    "SessionIncomplete",
    "SessionInfo",
    "SessionNotFound",
    "SessionOperations",
    "SessionPurged",
    "SessionStore",
    "ShardCountMismatch",
    "ShardOverview",
    "ShardPoll",
    "StagingLost",
    "Status",
    "TokenSource",
    "TorporError",
    "TranscriptChanged",
    "TransientError",
    "application_default",
    "check_namespace",
    "check_owner",
    "check_session_id",
    "connect",
    "decode_message",
    "encode_message",
    "parse_json",
    "run_sync",
]

if __name__ == "history":  # imported from the root of a checkout
    from torpor import _checkout

    _checkout.alias(__name__)
