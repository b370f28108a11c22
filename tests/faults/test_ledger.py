"""The ledger's own judgement; `make ledger SECONDS=600` is what it judges, and CI runs a short one."""

from __future__ import annotations

import redis

from ledger.record import Record, Turn, judge
from ledger.threads import GrowingThread, text_of, wrong_values
from support.keyspace import raw
from torpor import MemorystoreSaver
from torpor.history.protocol import SessionStore


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


def test_the_ledger_tells_a_checkpoint_that_has_not_the_messages_of_its_parent(client: redis.Redis) -> None:
    thread = GrowingThread(MemorystoreSaver(client), "thread-0", None)
    thread.catch_up()
    for number in range(3):
        thread.put([f"0:{2 * number}"])
        thread.put_writes([f"0:{2 * number + 1}"])
    elements = SessionStore(client).messages("thread-0", touch=False)
    assert [text_of(element) for element in elements] == [f"0:{number}" for number in range(6)]
    assert wrong_values("thread-0", elements) == []
    raw(client, "LSET", *raw(client, "KEYS", "*:m:thread-0"), 2, elements[2].replace(b"0:2...", b"9:9..."))
    [second] = wrong_values("thread-0", SessionStore(client).messages("thread-0", touch=False))
    assert second.startswith("0:2: ['0:0")
