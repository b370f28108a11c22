"""How many sessions are asleep: as a walk through the whole archive has last counted them (`access/asleep_count.py`).

Nobody counts them while they fall asleep and wake: the archive also loses sessions by its own rules, which tell nobody.
So a walk that lists the archive anyway notes its count, and the counts of the deployment as they were at its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from torpor.worker.monitoring.seen import ASLEEP_FIELDS, Seen

_SESSIONS, _AT, _FELL_ASLEEP, _WOKEN = ASLEEP_FIELDS


@dataclass(frozen=True, slots=True)
class Asleep:
    """So many `sessions` were asleep by a walk that began `at` a moment of Redis's clock.

    Since then, others `fell_asleep` and were `woken`. Sessions that were purged asleep, or have expired, are in none of
    these numbers.
    """

    sessions: int
    at: datetime
    fell_asleep: int
    woken: int


def last_count(seen: Seen, archived: int, restored: int) -> Asleep | None:
    """The last count; None if nobody has counted. `archived` and `restored` are the deployment's counts by now."""
    if any(field not in seen.numbers for field in ASLEEP_FIELDS):
        return None
    return Asleep(
        sessions=round(seen.numbers[_SESSIONS]),
        at=datetime.fromtimestamp(seen.numbers[_AT], UTC),
        fell_asleep=max(archived - round(seen.numbers[_FELL_ASLEEP]), 0),
        woken=max(restored - round(seen.numbers[_WOKEN]), 0),
    )
