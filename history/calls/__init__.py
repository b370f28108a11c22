"""Every operation as a function without I/O that returns a Call: a script, its keys and arguments, and its reply.

The stores only run the calls, so that no logic is written twice for blocking and asyncio clients.
Sources: the script of the same name in `history/lua/`, whose head documents keys, arguments and replies.
"""

from torpor.history.calls.adoption import (
    adopt,
    adoptions,
    begin_adoption,
    delete_companion,
    delete_taken,
    end_adoption,
    give_back,
    peek_list,
    stage_return,
    take_list,
)
from torpor.history.calls.archiving import commit, note_erased, release, renew, requeue, snapshot
from torpor.history.calls.call import KEEP, Call, Deployment, Keep
from torpor.history.calls.configuration import configure
from torpor.history.calls.documents import find_documents, peek_documents, take_documents
from torpor.history.calls.emptying import clear, pop
from torpor.history.calls.erasure import drop_live, purge, rebase
from torpor.history.calls.events import add_events, archive_health
from torpor.history.calls.figures import (
    add_sample,
    count_holds,
    figures,
    kinds,
    measures,
    note_kinds_counted,
    note_seen,
    samples,
    set_kinds,
    waiting_since,
)
from torpor.history.calls.holding import (
    find_hold,
    find_owner_hold,
    find_owner_release,
    find_release,
    hold,
    hold_owner,
    holds_of,
    list_holds,
    note_hold_applied,
    note_owner_hold,
    note_owner_release,
    owner_holds_in,
    release_hold,
)
from torpor.history.calls.identity import identify, move_fence, note_epoch
from torpor.history.calls.index import (
    claim,
    claim_one,
    claimed,
    due,
    end_election,
    list_sessions,
    nearest,
    overview,
    poll_shards,
)
from torpor.history.calls.owners import assign_owner, count_owned, owned, set_aside
from torpor.history.calls.rate import reserve
from torpor.history.calls.reading import info, read
from torpor.history.calls.repair import rebuild_metadata, reindex, rejoin, repack
from torpor.history.calls.restoring import abandon, begin_restore, finish_restore, stage
from torpor.history.calls.scheduling import close, update
from torpor.history.calls.threads import (
    CheckpointReply,
    KnownPlaces,
    NewRecord,
    WrittenRecord,
    read_checkpoint,
    rewrite,
    write_record,
)
from torpor.history.calls.writing import append

__all__ = [
    "KEEP",
    "Call",
    "CheckpointReply",
    "Deployment",
    "Keep",
    "KnownPlaces",
    "NewRecord",
    "WrittenRecord",
    "abandon",
    "add_events",
    "add_sample",
    "adopt",
    "adoptions",
    "append",
    "archive_health",
    "assign_owner",
    "begin_adoption",
    "begin_restore",
    "claim",
    "claim_one",
    "claimed",
    "clear",
    "close",
    "commit",
    "configure",
    "count_holds",
    "count_owned",
    "delete_companion",
    "delete_taken",
    "drop_live",
    "due",
    "end_adoption",
    "end_election",
    "figures",
    "find_documents",
    "find_hold",
    "find_owner_hold",
    "find_owner_release",
    "find_release",
    "finish_restore",
    "give_back",
    "hold",
    "hold_owner",
    "holds_of",
    "identify",
    "info",
    "kinds",
    "list_holds",
    "list_sessions",
    "measures",
    "move_fence",
    "nearest",
    "note_epoch",
    "note_erased",
    "note_hold_applied",
    "note_kinds_counted",
    "note_owner_hold",
    "note_owner_release",
    "note_seen",
    "overview",
    "owned",
    "owner_holds_in",
    "peek_documents",
    "peek_list",
    "poll_shards",
    "pop",
    "purge",
    "read",
    "read_checkpoint",
    "rebase",
    "rebuild_metadata",
    "reindex",
    "rejoin",
    "release",
    "release_hold",
    "renew",
    "repack",
    "requeue",
    "reserve",
    "rewrite",
    "samples",
    "set_aside",
    "set_kinds",
    "snapshot",
    "stage",
    "stage_return",
    "take_documents",
    "take_list",
    "update",
    "waiting_since",
    "write_record",
]
