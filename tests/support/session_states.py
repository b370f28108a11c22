"""Every state of a session, and every script that changes one: what the table of due moments is made of.

All use the session "s" of a store with one shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from inspect import Parameter, signature
from typing import Any

from support.foreign import LAYOUTS
from support.keyspace import raw
from support.stored_sessions import DAY, DUE, HOUR, MINUTE, QUARANTINE, A, B, C
from torpor.history import calls
from torpor.history.adoption import Adoption
from torpor.history.calls import Call
from torpor.history.protocol import (
    ANY_OWNER,
    ClaimOutcome,
    Expiry,
    Lease,
    PurgeTarget,
    RebuiltMetadata,
    RestoreTicket,
    SessionInfo,
    SessionStore,
)
from torpor.history.records.record import Checkpoint, Name, Typed, to_element
from torpor.history.session import Origin, Page

METADATA = "{torpor:0}:s:s"
# Idle for one hour, so that neither the default nor a changed expiry is taken for it.
OWN = Expiry(idle=HOUR)
CHANGED = timedelta(days=30)
DELAY = timedelta(minutes=5)
_STALE = Lease("s", b"1600000000000.5", b"1600000000000.5")


@dataclass
class Case:
    """A session in some state, and who works on it."""

    store: SessionStore
    lease: Lease | None = None
    ticket: RestoreTicket | None = None
    leases: set[bytes] = field(default_factory=set)

    def run(self, call: Callable[..., Call[Any]], *args: Any, **given: Any) -> Any:
        """Run a call, that of an application for any owner unless one is given."""
        owner = signature(call).parameters.get("owner")
        if owner and owner.kind is Parameter.KEYWORD_ONLY:
            given = {"owner": ANY_OWNER} | given
        return self.store.run(call(self.store.deployment, *args, **given))

    def claimed(self) -> Lease:
        """The lease that is running, else a new one; one that is long over if the session can't be claimed."""
        if self.lease is None:
            claimed = self.run(calls.claim_one, "s", MINUTE)
            self.lease = _STALE if isinstance(claimed, ClaimOutcome) else claimed
            self.leases.add(self.lease.token)
        return self.lease

    def begun(self) -> tuple[Lease, SessionInfo | None]:
        """An attempt: the lease and the snapshot, None if the lease is lost."""
        attempt = self.run(calls.snapshot, self.claimed(), 0)
        return self.claimed(), attempt and attempt.session

    def restoring(self) -> RestoreTicket:
        """The restore that is running, else a new one; one that was superseded if there is nothing to restore."""
        if self.ticket is None:
            begun = self.run(calls.begin_restore, "s", MINUTE)
            self.ticket = (
                begun if isinstance(begun, RestoreTicket) else RestoreTicket("s", b"00", 1, 0, datetime.now(UTC))
            )
        return self.ticket

    @contextmanager
    def erasing(self) -> Iterator[Lease]:
        """A worker that uploads meanwhile, so that an erasure must look again."""
        yield self.claimed()
        self.lease = None


def live(case: Case) -> None:
    case.run(calls.append, "s", [A, B], expiry=OWN)


def owned(case: Case) -> None:
    case.run(calls.append, "s", [A, B], expiry=OWN, owner="ann")


def due(case: Case) -> None:
    live(case)
    case.run(calls.close, "s")


def leased(case: Case) -> None:
    live(case)
    case.claimed()


def quarantined(case: Case) -> None:
    live(case)
    lease, _ = case.begun()
    case.run(calls.release, lease, None, counted=True, error="why")
    case.lease = None


def cleared(case: Case) -> None:
    live(case)
    case.run(calls.clear, "s")


def cleared_and_used(case: Case) -> None:
    cleared(case)
    live(case)


def cleared_during_an_upload(case: Case) -> None:
    """The first erasure is done, and the second one waits for the end of the upload's lease."""
    live(case)
    with case.erasing():
        case.run(calls.clear, "s")
    live(case)
    lease, snapshot = case.begun()
    assert snapshot is not None
    assert case.run(calls.note_erased, lease, snapshot.floor).value == "recheck"
    case.lease = None


def held_after_a_clear(case: Case) -> None:
    cleared_and_used(case)
    case.run(calls.hold, "s", "why")


def clear_in_work(case: Case) -> None:
    cleared_and_used(case)
    case.begun()


def held(case: Case) -> None:
    live(case)
    case.run(calls.hold, "s", "why")


def held_asleep(case: Case) -> None:
    case.run(calls.hold, "s", "why")


def held_in_work(case: Case) -> None:
    held(case)
    case.begun()


def hold_applied(case: Case) -> None:
    held(case)
    case.run(calls.note_hold_applied, *case.begun())
    case.lease = None


def hold_applied_asleep(case: Case) -> None:
    """Metadata without messages, which the next attempt removes."""
    held_asleep(case)
    case.run(calls.note_hold_applied, *case.begun())
    case.lease = None


def hold_released(case: Case) -> None:
    hold_applied(case)
    case.run(calls.release_hold, "s")


def held_in_quarantine(case: Case) -> None:
    quarantined(case)
    case.run(calls.hold, "s", "why")


def held_in_quarantine_in_work(case: Case) -> None:
    held_in_quarantine(case)
    [[case.lease]] = case.run(calls.claim, [0], 1, MINUTE)
    case.leases.add(case.claimed().token)


def purged(case: Case) -> None:
    live(case)
    case.run(calls.purge, PurgeTarget("s"), "p", tombstone=HOUR, idle=None)


def purged_in_work(case: Case) -> None:
    purged(case)
    case.begun()


def purged_and_used(case: Case) -> None:
    purged(case)
    case.run(calls.append, "s", [A], allow_reuse=True)


def known_absent(case: Case) -> None:
    assert case.run(calls.finish_restore, case.restoring(), 0, Origin(), remember=MINUTE).value == "nothing"
    case.ticket = None


def damaged(case: Case) -> None:
    live(case)
    raw(case.store.client, "DEL", METADATA)
    case.run(calls.append, "s", [C])


def damaged_in_quarantine(case: Case) -> None:
    quarantined(case)
    raw(case.store.client, "HDEL", METADATA, "epoch")


def held_damaged(case: Case) -> None:
    damaged(case)
    case.run(calls.hold, "s", "why")


def restoring_asleep(case: Case) -> None:
    case.restoring()


def restoring_live(case: Case) -> None:
    live(case)
    case.restoring()


def restoring_a_short_one(case: Case) -> None:
    """Its idle timeout ends before the lease of the restore."""
    case.run(calls.append, "s", [A, B], expiry=Expiry(idle=timedelta(seconds=5)))
    case.restoring()


def restoring_held(case: Case) -> None:
    restoring_live(case)
    case.run(calls.hold, "s", "why")


def restoring_in_quarantine(case: Case) -> None:
    quarantined(case)
    case.restoring()


def assigned_asleep(case: Case) -> None:
    """Metadata without messages, until the archive has the owner too."""
    case.run(calls.assign_owner, "s", "ann", archived=True)


def restoring_assigned(case: Case) -> None:
    restoring_asleep(case)
    case.run(calls.assign_owner, "s", "ann")


def absent(case: Case) -> None:
    """Nothing in Redis."""


def without_index(state: Callable[[Case], None]) -> Callable[[Case], None]:
    """The same state after its index entry was lost."""

    def lost(case: Case) -> None:
        state(case)
        raw(case.store.client, "ZREM", DUE, "s")
        raw(case.store.client, "ZREM", QUARANTINE, "s")

    return lost


STATES = {
    each.__name__.replace("_", " "): each
    for each in (
        live, owned, due, leased, quarantined,
        cleared, cleared_and_used, cleared_during_an_upload, clear_in_work, held_after_a_clear,
        held, held_asleep, held_in_work, held_in_quarantine, held_in_quarantine_in_work,
        hold_applied, hold_applied_asleep, hold_released,
        purged, purged_in_work, purged_and_used, known_absent,
        damaged, damaged_in_quarantine, held_damaged,
        restoring_asleep, restoring_live, restoring_a_short_one, restoring_held, restoring_in_quarantine,
        assigned_asleep, restoring_assigned, absent,
    )
}  # fmt: skip


def _adopt(case: Case) -> None:
    adoption = Adoption("s", LAYOUTS["memorystore"], "0a1b2c3d", "4e5f")
    begun = case.run(calls.begin_adoption, adoption, allow_reuse=False)
    case.run(calls.adopt, begun, replace(begun, written=1), [C], expiry=Expiry(), allow_reuse=False)


def _pop(case: Case) -> None:
    page = case.run(calls.read, "s", -1, None, 1024, touch=False)
    case.run(calls.pop, "s", page or Page(0, 0, 0, 0, [], complete=True))


# The elements of the states in place of A, B and C if an act is one on a thread.
CHECKPOINTS = [to_element(Checkpoint(Name("", each), None, Typed("null", b"")), 0) for each in "abc"]


def _write_record(case: Case, *, interrupts: bool | None = None, **given: Any) -> None:
    record = calls.NewRecord("", "c", CHECKPOINTS[2], interrupts=interrupts)
    case.run(calls.write_record, "s", record, interrupted_idle=MINUTE, **given)


def _rewrite(case: Case) -> None:
    page = case.run(calls.read, "s", 0, None, 1024, touch=False) or Page(0, 0, 0, 0, [])
    case.run(calls.rewrite, "s", [CHECKPOINTS[0]], epoch=page.epoch, total=page.total)


def _commit(case: Case) -> None:
    lease, snapshot = case.begun()
    if snapshot:
        case.run(calls.commit, lease, snapshot)


def _commit_of_less(case: Case) -> None:
    """The session has grown since its snapshot, but the lease is kept."""
    lease, snapshot = case.begun()
    if snapshot:
        case.run(calls.commit, lease, replace(snapshot, message_count=max(0, snapshot.message_count - 1)))


def _note_erased(case: Case) -> None:
    lease, snapshot = case.begun()
    case.run(calls.note_erased, lease, snapshot.floor if snapshot and snapshot.floor else 1)


def _note_hold_applied(case: Case) -> None:
    lease, snapshot = case.begun()
    if snapshot:
        case.run(calls.note_hold_applied, lease, snapshot)


def _drop_live(case: Case) -> None:
    lease, snapshot = case.begun()
    case.run(calls.drop_live, lease, epoch=snapshot.epoch if snapshot else 1)


def _finish(case: Case, messages: list[bytes], remember: timedelta | None) -> None:
    ticket = case.restoring()
    if messages:
        case.run(calls.stage, ticket, 0, messages, MINUTE)
    case.run(calls.finish_restore, ticket, len(messages), Origin(), remember=remember)


def _assign_held(case: Case) -> None:
    case.run(calls.hold_owner, 0, "ann", "why")
    case.run(calls.assign_owner, "s", "ann", archived=True)


def _renew(case: Case) -> None:
    renewed = case.run(calls.renew, case.claimed(), MINUTE)
    if renewed:
        case.leases.add(renewed.token)


def _claim(case: Case) -> None:
    [leases] = case.run(calls.claim, [0], 10, MINUTE)
    case.leases |= {lease.token for lease in leases}


def _rebuild(case: Case) -> None:
    length = raw(case.store.client, "LLEN", "{torpor:0}:m:s")
    case.run(calls.rebuild_metadata, "s", RebuiltMetadata(length, None, 0, 0, complete=True))


def _set_aside(case: Case) -> None:
    if info := case.run(calls.info, "s"):
        case.store.run(calls.set_aside(case.store.deployment, "s", epoch=info.epoch, owner=info.owner))


def _rejoin(case: Case, dropped: int) -> None:
    info = case.run(calls.info, "s")
    if info and info.epoch:
        case.run(calls.rejoin, info, min(dropped, info.message_count))


ACTS: dict[str, Callable[[Case], Any]] = {
    "append": lambda case: case.run(calls.append, "s", [C]),
    "append with allow_reuse": lambda case: case.run(calls.append, "s", [C], allow_reuse=True),
    "adopt": _adopt,
    "read": lambda case: case.run(calls.read, "s", 0, None, 1024, touch=True),
    "read without activity": lambda case: case.run(calls.read, "s", 0, None, 1024, touch=False),
    "update": lambda case: case.run(calls.update, "s", None, idle=CHANGED, max_age=None, retention=DAY),
    "close": lambda case: case.run(calls.close, "s"),
    "clear": lambda case: case.run(calls.clear, "s"),
    "pop": _pop,
    "hold": lambda case: case.run(calls.hold, "s", "another reason"),
    "release_hold": lambda case: case.run(calls.release_hold, "s"),
    "note_owner_hold": lambda case: case.run(calls.note_owner_hold, "s"),
    "purge": lambda case: case.run(calls.purge, PurgeTarget("s"), "q", tombstone=HOUR, idle=None),
    "rebase": lambda case: case.run(calls.rebase, PurgeTarget("s"), idle=None),
    "claim": _claim,
    "claim_one": lambda case: case.claimed(),
    "snapshot": lambda case: case.begun(),
    "renew": _renew,
    "commit": _commit,
    "commit of less": _commit_of_less,
    "release": lambda case: case.run(calls.release, case.begun()[0], DELAY, counted=True),
    "release to quarantine": lambda case: case.run(calls.release, case.begun()[0], None, counted=True, error="why"),
    "requeue": lambda case: case.run(calls.requeue, "s"),
    "note_erased": _note_erased,
    "note_hold_applied": _note_hold_applied,
    "drop_live": _drop_live,
    "begin_restore": lambda case: case.run(calls.begin_restore, "s", MINUTE),
    "stage": lambda case: case.run(calls.stage, case.restoring(), 0, [A], MINUTE),
    "finish_restore": lambda case: _finish(case, [A], None),
    "finish_restore of nothing": lambda case: _finish(case, [], None),
    "finish_restore of nothing, remembered": lambda case: _finish(case, [], MINUTE),
    "abandon": lambda case: case.run(calls.abandon, case.restoring()),
    "assign_owner": lambda case: case.run(calls.assign_owner, "s", "ann"),
    "assign_owner to what the archive has": lambda case: case.run(calls.assign_owner, "s", "ann", archived=True),
    "assign_owner under a hold": _assign_held,
    "set_aside": _set_aside,
    "write_record": _write_record,
    "write_record with allow_reuse": lambda case: _write_record(case, allow_reuse=True),
    "write_record that is an interrupt": lambda case: _write_record(case, interrupts=True),
    "read_checkpoint": lambda case: case.run(calls.read_checkpoint, "s", "", None, touch=True),
    "read_checkpoint without activity": lambda case: case.run(calls.read_checkpoint, "s", "", None, touch=False),
    "rewrite": _rewrite,
    "reindex": lambda case: case.run(calls.reindex, "s"),
    "rebuild_metadata": _rebuild,
    "repack": lambda case: case.run(calls.repack, "s", [(0, A, B), (1, B, A)]),
    "rejoin": lambda case: _rejoin(case, 1),
    "rejoin of all": lambda case: _rejoin(case, 9),
}
OF_THREADS = {"write_record", "read_checkpoint", "rewrite"}
# Operations of `calls` that change no session's state.
APART = {
    "figures",
    "waiting_since",
    "count_holds",
    "count_owned",
    "list_holds",
    "owner_holds_in",
    "holds_of",
    "measures",
    "note_seen",
    "add_sample",
    "samples",
}
APART |= {
    "configure",
    "identify",
    "move_fence",
    "note_epoch",
    "info",
    "due",
    "poll_shards",
    "end_election",
    "overview",
    "list_sessions",
    "nearest",
}
APART |= {"find_documents", "peek_documents", "take_documents", "kinds", "set_kinds", "note_kinds_counted", "reserve"}
APART |= {
    "add_events",
    "peek_list",
    "take_list",
    "delete_taken",
    "delete_companion",
    "end_adoption",
    "adoptions",
    "stage_return",
}
APART |= {
    "claimed",
    "give_back",
    "owned",
    "hold_owner",
    "find_hold",
    "begin_adoption",
    "archive_health",
}
APART |= {"find_owner_hold", "note_owner_release", "find_release", "find_owner_release"}
