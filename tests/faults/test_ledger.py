"""The ledger's own judgement; `make ledger SECONDS=600` is what it judges, and CI runs a short one."""

from __future__ import annotations

from ledger.record import Record, Turn, judge


def test_the_ledger_tells_what_is_lost_doubled_reordered_or_back_after_a_clear() -> None:
    turns = [
        Turn(0, "s", 0, 1, begin=0, end=1, era=0),  # before the clear
        Turn(0, "s", 1, 3, begin=2, end=3, era=1),
        Turn(1, "s", 0, 1, begin=4, end=5, era=1),
        Turn(0, "s", 3, 4, begin=4, end=None, era=1),  # never acknowledged
    ]
    record = Record(turns, era=1)
    for right in (["0:1", "0:2", "1:0"], ["0:1", "0:2", "1:0", "0:3"], ["0:1", "0:2", "0:3", "1:0"]):
        assert judge(record, right)
    assert judge(record, ["0:1", "1:0"]).lost == ["0:2"]
    assert judge(record, ["0:1", "0:2", "1:0", "0:3", "0:3"]).doubled == ["0:3"]
    assert judge(record, ["0:0", "0:1", "0:2", "1:0"]).doubled == ["0:0"]
    assert judge(record, ["0:1", "0:2", "1:0", "9:9"]).doubled == ["9:9"]
    assert judge(record, ["0:2", "0:1", "1:0"]).reordered == ["0:1"]
    assert judge(record, ["0:1", "1:0", "0:2"]).reordered == ["1:0"], "0:2 was acknowledged before 1:0 was begun"
