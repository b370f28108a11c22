"""What becomes of a session in a Redis that is behind its archive: the decision alone, over all histories."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.worker.ops.reconciling import Counts, ReconcileOutcome, decide


def compared(live: Sequence[str], restored: int, older: Sequence[str], newer: Sequence[str], *, later: bool) -> Counts:
    """As `_count` counts: with restored messages all of the archive, without them the newer part."""
    archived = [*older, *newer] if restored else newer
    differ = (place for place, pair in enumerate(zip(live, archived, strict=False)) if pair[0] != pair[1])
    common = next(differ, min(len(live), len(archived)))
    return Counts(len(live), restored, len(older), len(newer), common, later)


@pytest.mark.parametrize(
    ("live", "restored", "older", "newer", "later", "expected"),
    [
        ("ab", 0, "", "", False, None),
        ("ab", 0, "", "a", False, None),
        ("ab", 0, "", "ab", False, None),
        ("ab", 0, "xy", "", False, None),
        ("ab", 0, "", "abc", False, (ReconcileOutcome.ASLEEP, 2)),
        ("ab", 0, "xy", "abc", False, (ReconcileOutcome.ASLEEP, 2)),
        ("abL", 0, "", "abc", False, (ReconcileOutcome.JOINED, 2)),
        ("L", 0, "", "abc", False, (ReconcileOutcome.JOINED, 0)),
        ("", 0, "", "a", False, (ReconcileOutcome.ASLEEP, 0)),
        ("ab", 0, "", "ab", True, (ReconcileOutcome.ASLEEP, 2)),
        ("abL", 0, "", "ab", True, (ReconcileOutcome.JOINED, 2)),
        ("ab", 0, "", "", True, (ReconcileOutcome.JOINED, 0)),
        ("xyab", 2, "xy", "ab", False, None),
        ("xyab", 2, "xy", "abc", False, (ReconcileOutcome.ASLEEP, 4)),
        ("xyabL", 2, "xy", "abc", False, (ReconcileOutcome.JOINED, 4)),
        ("xyL", 2, "xy", "", True, (ReconcileOutcome.JOINED, 2)),
        ("xyab", 2, "x", "abc", False, (ReconcileOutcome.UNCLEAR, 0)),
        ("xyab", 2, "xz", "abc", False, (ReconcileOutcome.UNCLEAR, 0)),
        ("xyab", 2, "xyz", "abc", False, (ReconcileOutcome.UNCLEAR, 0)),
    ],
)
def test_each_kind_of_history(
    live: str, restored: int, older: str, newer: str, *, later: bool, expected: tuple[ReconcileOutcome, int] | None
) -> None:
    assert decide(compared(live, restored, older, newer, later=later)) == expected


COUNT = st.integers(0, 5)


@given(older=COUNT, restored=st.booleans(), shared=COUNT, archived=COUNT, written=COUNT, later=st.booleans())
def test_whatever_came_after_the_backup_a_wake_has_each_message_once_and_in_order(
    *, older: int, restored: bool, shared: int, archived: int, written: int, later: bool
) -> None:
    """`shared` messages were in Redis at the backup, `archived` ones came later, and `written` ones to the backup."""
    before = [f"older {number}" for number in range(older)]
    common = [f"shared {number}" for number in range(shared)]
    after = [f"archived {number}" for number in range(archived)]
    late = [f"written {number}" for number in range(written)]
    newer = [*common, *after] if archived or later else common[: shared // 2]
    live = [*(before if restored else []), *common, *late]
    decided = decide(compared(live, older if restored else 0, before, newer, later=later))
    if decided is None:
        woken = live if restored else [*before, *live]
        assert newer == common[: len(newer)], "nothing of the archive is passed over"
    else:
        outcome, dropped = decided
        assert outcome is (ReconcileOutcome.JOINED if late else ReconcileOutcome.ASLEEP)
        woken = [*before, *newer, *live[dropped:]]
    assert woken == [*before, *common, *after, *late]
