"""How `make bench` evaluates its figures and writes docs/performance.md; nothing is measured here."""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager
from typing import Any

import pytest

from bench import cost, page
from bench.compare import ROWS
from bench.harness import Bench, Reach, Result, Row, Side, Sides, measure
from bench.profiling import Profile


def row(*reaches: Reach, **options: Any) -> Row:
    def setup(_: Bench) -> AbstractContextManager[Sides]:
        raise NotImplementedError

    return Row("sleep", "sleep", "ms", setup, reaches, **options)


def result(*rounds: tuple[float, float], reach: Reach) -> Result:
    return Result(row(reach), [{Side.OURS: ours, Side.PEER: peer} for ours, peer in rounds])


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    measured = result((1, 10), (30, 100), (2, 4), reach=Reach(0.3, Side.PEER))
    assert measured.value(measured.row.reaches[0]) == 0.3  # of the medians it would be 0.2
    assert not measured.missed


def test_a_line_tells_by_how_much_a_reach_is_missed() -> None:
    measured = result((6, 10), (6, 10), reach=Reach(0.4, Side.PEER, stretch=0.2))
    assert measured.missed
    [line] = page.table([measured]).splitlines()[2:]
    assert "6.00 | 10.0 |  | 0.60 (0.60 to 0.60) | at most 0.4 of the peer; stretch 0.2 | **no**, by 50%" in line


def test_a_line_tells_whether_the_stretch_is_reached_too() -> None:
    assert "| yes, stretch too |" in page.table([result((1, 10), reach=Reach(0.4, Side.PEER, stretch=0.2))])
    assert "| yes |" in page.table([result((3, 10), reach=Reach(0.4, Side.PEER, stretch=0.2))])


def test_a_rate_is_to_be_at_least_what_it_shall_reach() -> None:
    reach = Reach(0.85, Side.PEER, at_least=True)
    assert "at least 0.85 of the peer | yes |" in page.table([result((86, 100), reach=reach)])
    assert "**no**, by 12%" in page.table([result((75, 100), reach=reach)])


def test_a_figure_of_ours_alone_is_compared_with_the_limit_itself() -> None:
    assert "| at most 8 ms | **no**, by 25% |" in page.table([result((10, 1), reach=Reach(8))])


class Turns:
    """A set-up whose sides note that they were measured."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def __call__(self, _: Bench) -> Turns:
        return self

    def __enter__(self) -> Sides:
        return Sides(lambda: self._measured("ours"), lambda: self._measured("peer"), lambda: self._measured("floor"))

    def __exit__(self, *_: object) -> None:
        self.log.append("cleaned up")

    def _measured(self, side: str) -> float:
        self.log.append(side)
        return len(self.log)


def test_the_sides_take_turns_and_a_first_round_is_not_counted() -> None:
    turns: Any = Turns()
    bench: Any = None
    measured = measure(bench, Row("turns", "turns", "", turns), 3, lambda _: None)
    assert [" ".join(turns.log[first : first + 3]) for first in range(0, 12, 3)] == [
        "floor ours peer",
        "ours peer floor",
        "peer floor ours",
        "floor ours peer",
    ]
    assert turns.log[12:] == ["cleaned up"]
    assert [figures[Side.OURS] for figures in measured.rounds] == [4, 9, 11]


def test_a_row_can_bound_its_rounds() -> None:
    turns: Any = Turns()
    bench: Any = None
    measured = measure(bench, Row("turns", "turns", "", turns, most_rounds=1, warm=False), 3, lambda _: None)
    assert len(measured.rounds) == 1
    assert turns.log == ["ours", "peer", "floor", "cleaned up"]


def test_a_short_row_has_three_rounds_for_each_one() -> None:
    turns: Any = Turns()
    bench: Any = None
    assert len(measure(bench, Row("turns", "turns", "", turns, short=True), 3, lambda _: None).rounds) == 9


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="cProfile follows the threads up to Python 3.11 only")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from Python 3.12 on, cProfile profiles one thread at a time")
def test_a_profile_tells_of_threads_too() -> None:
    import threading
    import time

    def named_in_a_thread() -> None:
        for _ in range(1_000):
            time.time()

    def act() -> None:
        thread = threading.Thread(target=named_in_a_thread)
        thread.start()
        thread.join()

    profile = Profile()
    profile.run(act, time.thread_time)
    by_package, *lines = profile.lines()
    assert "tests" in by_package
    assert any("unit/test_bench.py" in line and "named_in_a_thread" in line for line in lines)
    assert threading.Thread.run.__module__ == "threading"


def test_only_what_is_between_the_markers_of_a_block_is_replaced() -> None:
    before = "a\n<!-- bench: table -->\nold\n<!-- bench: end of table -->\nb <!-- bench: cost -->"
    after = page.replaced(before, "table", r"new \1")
    assert after == "a\n<!-- bench: table -->\n\nnew \\1\n\n<!-- bench: end of table -->\nb <!-- bench: cost -->"
    with pytest.raises(AssertionError):
        page.replaced("none", "table", "")


def test_each_row_has_a_name_of_its_own_and_says_what_it_compares() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    for each in ROWS:
        assert each.ours, each.name
        for reach in each.reaches:
            assert reach.of is Side.OURS or getattr(each, reach.of), (each.name, reach)


def test_the_page_has_a_place_for_each_block_and_a_line_for_each_reach() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    [table] = re.findall(r"<!-- bench: table -->(.*)<!-- bench: end of table -->", text, re.DOTALL)
    for each in ROWS:
        assert table.count(f"| {each.figure} | {each.unit} |") == max(1, len(each.reaches)), each.name
    for name in ("machine", "sides", "profiles", "cost"):
        page.replaced(text, name, "")


def test_the_cost_follows_the_number_of_sessions() -> None:
    measured = cost.Measured(
        ours_bytes=4_500,
        peer_bytes=5_000,
        ours_redis_us=600,
        peer_redis_us=500,
        archive_us=1_000,
        celery_us=20,
        uploads=700,
        sweep_ms=3,
        segment_bytes=1_500,
    )
    small, large = cost.Load(measured, 1_000_000), cost.Load(measured, 100_000_000)
    assert small.redis_bytes_alone == 1_000_000 * 30 * 5_000
    assert round(small.live) == 1_050_000 * 3 * 1.5 / 24
    assert (small.workers, small.shards, small.nodes, small.ramp_minutes) == (1, 256, 1, 0)
    assert large.workers == 11  # 3,646 sessions a second, two objects each, at 700 a second
    assert large.ramp_minutes == 60  # 1,000, 2,000, 4,000, 8,000
    assert large.nodes == 5  # 2.2 cores, of which each primary is to use half of one
    assert cost.Load(measured, 10_000_000_000).shards == 16_384
