"""The commands of docs/operations.md, each after what it is for, with what it must do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from support import symptoms
from support.symptoms import OWNER, PURGE, S, World
from torpor.worker.ops.finding import Ailment

# What the page's placeholders stand for.
FILLED = {"SESSION": S, "OWNER": OWNER, "ID": PURGE, "PATTERN": "user-*"}


@dataclass(frozen=True)
class Remedy:
    """What was before the command, what it prints, and its exit code.

    If it `cures`, doctor has named the symptom before, and finds nothing afterwards. `before` is what the row tells a
    person to do first.
    """

    cause: Callable[[World], None] = symptoms.nothing
    says: str = ""
    code: int = 0
    cures: bool = False
    before: Callable[[World], None] | None = None


def _repairs(cause: Callable[[World], None], before: Callable[[World], None] | None = None) -> Remedy:
    return Remedy(cause, "repaired: ", cures=True, before=before)


_REPAIR = "torpor doctor --repair"
_AWAY = "the archive is unavailable since"
# The first text in backticks of a row's symptom, or else the symptom -> the row's commands.
ROWS: Mapping[str, Mapping[str, Remedy]] = {
    "TorporArchiveUnavailable": {
        "torpor status": Remedy(symptoms.archive_refuses, _AWAY, code=2),
        "torpor bucket": Remedy(symptoms.archive_refuses, "403", code=2),
    },
    "TorporRedisDown": {"torpor status": Remedy(says="archive health")},
    "TorporNoWorker": {
        "torpor status": Remedy(says="nobody works: "),
        "torpor deployment": Remedy(says="agree"),
    },
    "TorporSessionsWaitTooLong": {
        "torpor status": Remedy(symptoms.due, "due 1 "),
        "torpor sessions --due": Remedy(symptoms.due, S),
    },
    "TorporBeatSilent": {
        "torpor status": Remedy(says="beat"),
        "torpor sweep --once": Remedy(symptoms.due, "1 archived"),
    },
    "TorporSessionsInQuarantine": {
        "torpor quarantine": Remedy(symptoms.quarantined, S),
        "torpor requeue SESSION": Remedy(symptoms.quarantined, f"requeued: {S}"),
        "torpor requeue --all": Remedy(symptoms.quarantined, f"requeued: {S}"),
    },
    "TorporRedisMemoryHigh": {"torpor status": Remedy(says="Redis memory")},
    "eviction_policy": {"torpor status": Remedy(says="Redis memory")},
    "TorporLeasesLost": {"torpor quarantine": Remedy(symptoms.quarantined, S)},
    "TorporWakesSlow": {"torpor status": Remedy(says="archive health")},
    "TorporPurgeOverdue": {
        "torpor purge-status": Remedy(symptoms.purge_ordered, PURGE),
        "torpor purge --resume ID": Remedy(symptoms.purge_ordered, "complete"),
    },
    "TorporJobStuck": {
        "torpor jobs": Remedy(symptoms.job_refused, "refused"),
        "torpor jobs --resume ID": Remedy(symptoms.job_ordered, "complete"),
        "torpor jobs --cancel ID": Remedy(symptoms.job_refused, "could not be done"),
    },
    Ailment.GHOST: {_REPAIR: _repairs(symptoms.without_a_session)},
    Ailment.METADATA_LOST: {
        _REPAIR: _repairs(symptoms.without_metadata),
        f"{_REPAIR} --assume woken": _repairs(symptoms.without_metadata_by_chance),
        f"{_REPAIR} --assume new": _repairs(symptoms.without_metadata_by_chance),
    },
    Ailment.UNREADABLE: {_REPAIR: _repairs(symptoms.not_torpors, symptoms.delete_it)},
    Ailment.KEY_OF_OTHER_TYPE: {
        "torpor doctor": Remedy(symptoms.foreign_samples, "{torpor:events}:samples is a string", code=1),
        "torpor status": Remedy(symptoms.foreign_note, "delete worker:celery@a"),
    },
    Ailment.CORRUPT: {"torpor export SESSION": Remedy(symptoms.unreadable_message, "bm8gbWVzc2FnZQ==")},
    Ailment.OBJECT_DAMAGED: {"torpor doctor": Remedy(symptoms.damaged_order, PURGE, code=1)},
    Ailment.BEHIND: {_REPAIR: _repairs(symptoms.behind)},
    Ailment.HOLD_LOST: {
        _REPAIR: _repairs(symptoms.hold_lost),
        "torpor unhold --owner OWNER": Remedy(symptoms.hold_lost, cures=True),
    },
    Ailment.PURGE_FORGOTTEN: {"torpor purge --resume ID": Remedy(symptoms.purge_ordered, "complete", cures=True)},
    Ailment.KINDS_MISCOUNTED: {_REPAIR: _repairs(symptoms.miscounted)},
    Ailment.UNADOPTED: {_REPAIR: _repairs(symptoms.unadopted)},
    Ailment.ARCHIVE_UNAVAILABLE: {
        "torpor status": Remedy(symptoms.archive_away, _AWAY),
        "torpor doctor": Remedy(symptoms.archive_away, Ailment.UNEXAMINED, code=1),
    },
    "deployment_refused": {"torpor deployment": Remedy(symptoms.redis_lost, "torpor deployment recover", code=2)},
    "blocked": {
        "torpor receipts ID": Remedy(symptoms.purge_blocked, "legal hold: case 12"),
        "torpor unhold --owner OWNER": Remedy(symptoms.purge_blocked),
    },
    "session.failed": {"torpor bucket": Remedy(says="soft delete")},
    "Two owners have used one session id": {
        "torpor sessions --conflicts": Remedy(symptoms.two_owners, "bob"),
        "torpor separate SESSION": Remedy(symptoms.two_owners, S),
    },
    "Sessions have no owner, and applications that name one are refused": {
        "torpor assign-owner --match PATTERN --owner OWNER --yes": Remedy(symptoms.without_owner, "assigned")
    },
    "An application does not follow a new idle timeout or policy": {"torpor sessions": Remedy(says="awake")},
}
# The commands of the other parts of the page.
ELSEWHERE: Mapping[str, Remedy] = {
    "torpor bucket": Remedy(says="soft delete"),
    "torpor deployment": Remedy(says="agree"),
    "torpor status": Remedy(says="archive health"),
    "torpor doctor": Remedy(),
    "torpor doctor --no-messages": Remedy(),
    "torpor status --json": Remedy(says='"warnings": ['),
    "torpor status --json | jq .oldest_overdue_seconds": Remedy(symptoms.due, '"oldest_overdue_seconds": '),
    "torpor sessions --due --limit 20": Remedy(symptoms.due, S),
    "torpor events --json": Remedy(symptoms.unreadable_message),
}
