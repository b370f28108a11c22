"""The names of `history` that the worker uses. Applications import from `torpor`.

This module loads no LangChain; `torpor.history.adapters.messages` converts LangChain's messages.

- **Sessions in Redis**: `SessionStore` has every operation, blocking; `SessionOperations` has those of applications, as
  coroutines; `run_sync` runs one of these to its end. `WorkLock` is the lock of a purge, or of a part of another job.
- **Connections**: `connect`, `is_instances_own` of a CA file, `OwnConnection` that trusts that file alone.
  `Limits` of a request by HTTP, and a `bounded_session` with them.
- **A session**: `SessionInfo` with its `Status`, `SessionKind`, `Expiry` and `LegalHold`;
  `parse_json`, `to_json_line`, `is_readable`, `is_record`, `is_too_deep` and `has_too_many_values` for one message.
- **Archiving**: a `Lease` and the `ClaimOutcome` without one, an `Attempt`, `CommitOutcome`, `EraseOutcome`.
- **Waking**: a `RestoreTicket` or a `RestoreRefusal`, the `Origin` of a session, and the `RestoreEnd`.
- **Erasure and legal holds**: a `PurgeTarget`, its `Purging` with a `PurgeOutcome`; `HoldOutcome`, `HoldKind`;
  `HoldRecords` with a `HoldRecord` for each holder; a `StandingHold` of the list of all.
- **Owners**: a `Caller` names one, or is `ANY_OWNER`; `check_archived` refuses one, `encode_caller` gives the form of
  scripts; `aside_of` knows the id of a session that was put aside; the `AssignOutcome` of giving a session one.
- **Shards**: a `ShardOverview` for status, `ShardFigures`, and an `Ending` that the tally counts; the `Measures` of a
  deployment, and a `Sample` of its figures.
- **The archive's health**: a worker's `ArchiveNote`, the `ArchiveState`, and `ArchiveHealth` with each
  `WorkerHealth`.
- **Repair**: `IndexOutcome`, `RebuiltMetadata` and `RejoinOutcome`; a session that was `Repacked`.
- **Other libraries' sessions**: `Layout`, its `Storage`, the known `FORMATS`, an `Adoption`, and what is `Adoptable`;
  `is_celerys` and `looks_like_torpors` tell by a key's name whose it is, and `check_return_key` refuses
  both; sessions go back below the `RETURN_PREFIX`.
- **A deployment**: the `Identity` that Redis has recorded, its `Policies` and its `Compression`;
  `DEFAULT_NAMESPACE`, `MAX_SHARDS`, `MAX_MESSAGE_BYTES` and `MOST_MESSAGE_BYTES`; `check_max_message_bytes`,
  `check_namespace`, `check_owner` and `check_session_id` raise InvalidArgument.
- **Scripts**: `all_scripts` that are run in Redis.
- **Errors**: all those of `torpor.history.errors`, whose first lines show their tree.
"""

from torpor.history.adoption import Adoptable, Adoption
from torpor.history.clients.blocking import run_sync
from torpor.history.clients.connect import connect
from torpor.history.clients.iam import bounded_session
from torpor.history.clients.request_limits import Limits
from torpor.history.clients.trust import OwnConnection, is_instances_own
from torpor.history.compression import Compression
from torpor.history.elements import is_readable, is_record, parse_json, to_json_line
from torpor.history.errors import (
    ClientMismatch,
    DictionaryUnknown,
    InvalidArgument,
    InvalidExpiry,
    InvalidOwner,
    InvalidReason,
    InvalidSessionId,
    KindMismatch,
    MessageCorrupt,
    MessageNotSerializable,
    MessageTooLarge,
    NoFreeConnection,
    NotAdoptable,
    OwnerMismatch,
    OwnerMissing,
    OwnerRequired,
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
from torpor.history.expiry import Expiry
from torpor.history.formats.known import FORMATS
from torpor.history.formats.layout import Layout, Storage
from torpor.history.formats.reserved import RETURN_PREFIX, check_return_key, is_celerys
from torpor.history.ids import DEFAULT_NAMESPACE, MAX_SHARDS, check_namespace, check_owner, check_session_id
from torpor.history.keys import aside_of, looks_like_torpors
from torpor.history.limits import (
    MAX_MESSAGE_BYTES,
    MOST_MESSAGE_BYTES,
    check_max_message_bytes,
    has_too_many_values,
    is_too_deep,
)
from torpor.history.outcomes import (
    AssignOutcome,
    ClaimOutcome,
    CommitOutcome,
    EraseOutcome,
    HoldKind,
    HoldOutcome,
    IndexOutcome,
    PurgeOutcome,
    PurgeTarget,
    Purging,
    RebuiltMetadata,
    RejoinOutcome,
    Repacked,
    RestoreEnd,
    RestoreRefusal,
    RestoreTicket,
    StandingHold,
)
from torpor.history.overview import (
    ArchiveHealth,
    ArchiveNote,
    ArchiveState,
    Ending,
    Identity,
    Measures,
    Sample,
    ShardFigures,
    ShardOverview,
    WorkerHealth,
)
from torpor.history.owners import ANY_OWNER, Caller, check_archived, encode_caller
from torpor.history.policy import Policies
from torpor.history.scripts import all_scripts
from torpor.history.session import (
    Attempt,
    HoldRecord,
    HoldRecords,
    Lease,
    LegalHold,
    Origin,
    SessionInfo,
    SessionKind,
    Status,
)
from torpor.history.store import SessionOperations, SessionStore, WorkLock

__all__ = [
    "ANY_OWNER",
    "DEFAULT_NAMESPACE",
    "FORMATS",
    "MAX_MESSAGE_BYTES",
    "MAX_SHARDS",
    "MOST_MESSAGE_BYTES",
    "RETURN_PREFIX",
    "Adoptable",
    "Adoption",
    "ArchiveHealth",
    "ArchiveNote",
    "ArchiveState",
    "AssignOutcome",
    "Attempt",
    "Caller",
    "ClaimOutcome",
    "ClientMismatch",
    "CommitOutcome",
    "Compression",
    "DictionaryUnknown",
    "Ending",
    "EraseOutcome",
    "Expiry",
    "HoldKind",
    "HoldOutcome",
    "HoldRecord",
    "HoldRecords",
    "Identity",
    "IndexOutcome",
    "InvalidArgument",
    "InvalidExpiry",
    "InvalidOwner",
    "InvalidReason",
    "InvalidSessionId",
    "KindMismatch",
    "Layout",
    "Lease",
    "LegalHold",
    "Limits",
    "Measures",
    "MessageCorrupt",
    "MessageNotSerializable",
    "MessageTooLarge",
    "NoFreeConnection",
    "NotAdoptable",
    "Origin",
    "OwnConnection",
    "OwnerMismatch",
    "OwnerMissing",
    "OwnerRequired",
    "PermanentError",
    "Policies",
    "PoliciesUnreadable",
    "PurgeOutcome",
    "PurgeTarget",
    "Purging",
    "RebuiltMetadata",
    "RedisMemoryFull",
    "RedisRefused",
    "RedisUnavailable",
    "RejoinOutcome",
    "Repacked",
    "RestoreEnd",
    "RestoreRefusal",
    "RestoreTicket",
    "Sample",
    "SessionDamaged",
    "SessionExists",
    "SessionHeld",
    "SessionIncomplete",
    "SessionInfo",
    "SessionKind",
    "SessionNotFound",
    "SessionOperations",
    "SessionPurged",
    "SessionStore",
    "ShardCountMismatch",
    "ShardFigures",
    "ShardOverview",
    "StagingLost",
    "StandingHold",
    "Status",
    "Storage",
    "TorporError",
    "TranscriptChanged",
    "TransientError",
    "WorkLock",
    "WorkerHealth",
    "all_scripts",
    "aside_of",
    "bounded_session",
    "check_archived",
    "check_max_message_bytes",
    "check_namespace",
    "check_owner",
    "check_return_key",
    "check_session_id",
    "connect",
    "encode_caller",
    "has_too_many_values",
    "is_celerys",
    "is_instances_own",
    "is_readable",
    "is_record",
    "is_too_deep",
    "looks_like_torpors",
    "parse_json",
    "run_sync",
    "to_json_line",
]
