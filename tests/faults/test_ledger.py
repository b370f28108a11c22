"""A short run of the ledger; `make ledger SECONDS=600` is a long one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ledger import Record, Turn, judge

LEDGER = Path(__file__).parents[1] / "ledger.py"
COUNTS = re.compile(r"acknowledged=(\d+) faults=(\d+) kills=(\d+) lost=(\d+) doubled=(\d+) reordered=(\d+)")


@pytest.mark.timeout(180)
@pytest.mark.single_node(reason="it starts a server of its own")
def test_every_acknowledged_message_is_there_once_and_in_order_after_faults_and_kills() -> None:
    command = [sys.executable, str(LEDGER), "--seconds", "12", "--sessions", "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output, _ = process.communicate(timeout=160)
        finally:
            process.send_signal(signal.SIGTERM)  # it ends what it has started
    last = COUNTS.fullmatch(output.splitlines()[-1])
    assert last, output
    acknowledged, faults, kills, *wrong = (int(count) for count in last.groups())
    assert (process.returncode, wrong) == (0, [0, 0, 0]), output
    assert acknowledged > 200
    assert faults
    assert kills


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
