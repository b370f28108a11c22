"""Every operation as a pure function that returns a Call: which script, which keys, which arguments, which reply.

The stores only run them, so that no logic is written twice for sync and async clients.
Sources: the script of the same name in `history/lua/`, whose head documents keys, arguments and replies.
"""

from torpor.history.calls.adoption import adopt, adopted, adoptions, begin, give_back, lay, let_go, peek, take
from torpor.history.calls.application import append, clear, close, configure, info, pop, read, update
from torpor.history.calls.archiving import attempts, cleaned, commit, release, renew, requeue, snapshot
from torpor.history.calls.call import KEEP, Call, Deployment, Keep
from torpor.history.calls.erasure import drop, owned, purge, rebase
from torpor.history.calls.events import tell
from torpor.history.calls.holding import find_hold, held, hold, hold_owner, note_owner_hold, release_hold
from torpor.history.calls.index import attend, claim, due, heard, list_sessions, nearest, overview, seize
from torpor.history.calls.repair import mend, reindex
from torpor.history.calls.restoring import abandon, restore, stage, swap

__all__ = [
    "KEEP",
    "Call",
    "Deployment",
    "Keep",
    "abandon",
    "adopt",
    "adopted",
    "adoptions",
    "append",
    "attempts",
    "attend",
    "begin",
    "claim",
    "cleaned",
    "clear",
    "close",
    "commit",
    "configure",
    "drop",
    "due",
    "find_hold",
    "give_back",
    "heard",
    "held",
    "hold",
    "hold_owner",
    "info",
    "lay",
    "let_go",
    "list_sessions",
    "mend",
    "nearest",
    "note_owner_hold",
    "overview",
    "owned",
    "peek",
    "pop",
    "purge",
    "read",
    "rebase",
    "reindex",
    "release",
    "release_hold",
    "renew",
    "requeue",
    "restore",
    "seize",
    "snapshot",
    "stage",
    "swap",
    "take",
    "tell",
    "update",
]
