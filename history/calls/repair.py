"""What sets right an index entry or metadata that was lost."""

from __future__ import annotations

from torpor.history.calls.call import Call, Deployment
from torpor.history.keys import encode_session_id
from torpor.history.scripts import script
from torpor.history.session import IndexOutcome, Mending


def reindex(deployment: Deployment, session_id: str) -> Call[IndexOutcome]:
    """Add the index entry that a session lacks, or drop the one that lacks a session."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    return Call(
        script("reindex"),
        [keys.messages(session), keys.metadata(session), keys.due, keys.quarantine],
        [session, *deployment.defaults],
        lambda reply: IndexOutcome(reply.decode()),
    )


def mend(deployment: Deployment, session_id: str, mending: Mending) -> Call[bool]:
    """Give messages whose metadata was lost new metadata; False: the session has changed."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    epoch = b"" if mending.epoch is None else mending.epoch
    counts = [mending.message_count, epoch, mending.base, mending.archived_count, int(mending.whole)]
    return Call(
        script("mend"),
        [keys.messages(session), keys.metadata(session), keys.due, keys.tally, keys.quarantine],
        [session, *counts],
        bool,
    )
