"""A pace limits all threads together."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from torpor.worker.pace import Pace


def test_threads_together_go_no_faster_than_the_pace() -> None:
    pace = Pace(50)
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: pace.wait(), range(25)))
    assert time.monotonic() - begun >= 24 / 50, "the first at once, and 24 more at 50 a second"


def test_what_begins_together_is_paid_for_before_more_begins() -> None:
    pace, begun = Pace(1_000), time.monotonic()
    for _ in range(5):
        pace.wait(50)
    assert time.monotonic() - begun >= 0.2, "the first 200 are paid for"


def test_a_lot_is_a_seconds_worth_and_never_nothing() -> None:
    assert [Pace(per_second).lot(100) for per_second in (None, 1_000, 7.5, 0.1)] == [100, 100, 7, 1]


def test_without_a_limit_nobody_waits_or_lets_another_thread_run(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    Pace().wait()
    assert not slept
