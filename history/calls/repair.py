"""Repair index entries and metadata that were lost."""

from __future__ import annotations

from collections.abc import Sequence

from torpor.history.calls.call import Call, Deployment
from torpor.history.calls.session_keys import session_keys
from torpor.history.outcomes import IndexOutcome, RebuiltMetadata, RejoinOutcome
from torpor.history.scripts import script
from torpor.history.session import SessionInfo


def reindex(deployment: Deployment, session_id: str, *, repair: bool = True) -> Call[IndexOutcome]:
    """Add a missing index entry of a session, or drop one that has no session; without `repair`, only compare."""
    keys = session_keys(deployment.keyspace, session_id)
    return Call(
        script("reindex"),
        [keys.messages, keys.metadata, keys.due, keys.quarantine],
        [keys.session, *deployment.defaults, b"1" if repair else b""],
        lambda reply: IndexOutcome(reply.decode()),
        repeatable=False,  # sent again, it would say that there was nothing to repair
    )


def rebuild_metadata(deployment: Deployment, session_id: str, rebuilt: RebuiltMetadata) -> Call[bool]:
    """Give new metadata to messages whose metadata was lost, due now; False if the session has changed."""
    keys = session_keys(deployment.keyspace, session_id)
    epoch = b"" if rebuilt.epoch is None else rebuilt.epoch
    counts = [rebuilt.message_count, epoch, rebuilt.restored_count, rebuilt.archived_count, int(rebuilt.complete)]
    return Call(
        script("rebuild_metadata"),
        [keys.messages, keys.metadata, keys.due, keys.tally, keys.quarantine],
        [keys.session, *counts],
        bool,
        repeatable=False,  # sent again, it would say that the session has changed
    )


def repack(deployment: Deployment, session_id: str, changes: Sequence[tuple[int, bytes, bytes]]) -> Call[int]:
    """Give messages another stored form: position, bytes as they were read, and new bytes that say the same.

    Returns how many of them have it now: a position that has other bytes than were read keeps them.
    """
    keys = session_keys(deployment.keyspace, session_id)
    shrinks = all(len(new) <= len(read) for _, read, new in changes)
    return Call(
        script("repack"),
        [keys.messages, keys.due],
        [int(shrinks), *(part for change in changes for part in change)],
        int,
    )


def rejoin(deployment: Deployment, compared: SessionInfo, dropped: int) -> Call[RejoinOutcome]:
    """Drop the first messages of a session, which its archive has, and give the others an epoch after the archive's.

    For a session whose archive has messages that Redis lacks, only if the session is as it was `compared`.
    """
    keys = session_keys(deployment.keyspace, compared.session_id)
    counts = [compared.epoch, compared.restored_count, compared.message_count, dropped]
    return Call(
        script("rejoin"),
        [keys.messages, keys.metadata, keys.due, keys.tally, keys.quarantine],
        [keys.session, *counts, *deployment.defaults],
        lambda reply: RejoinOutcome(reply.decode()),
    )
