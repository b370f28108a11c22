"""The lines of `torpor top`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from torpor.history.protocol import Sample
from torpor.worker.cli.sparkline import draw
from torpor.worker.monitoring.series import levels, rates

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def samples(values: Iterable[tuple[float, int]]) -> list[Sample]:
    """Samples of a figure, each with how many minutes ago it was taken."""
    return [Sample(NOW - timedelta(minutes=ago), {"n": value}, "") for ago, value in values]


def test_each_part_of_a_line_shows_its_highest_value_and_a_gap_is_no_zero() -> None:
    found = levels(samples([(59, 1), (58, 7), (57, 3), (21, 0), (1, 4)]), "n", NOW, HOUR, 6)
    assert found == [7, None, None, 0, None, 4]
    assert draw(found) == "█  ▁ ▆"
    assert draw(found, ascii_only=True) == "@  _ *"


def test_what_is_older_than_the_span_or_unknown_is_not_in_the_line() -> None:
    assert levels(samples([(61, 9), (30, 1)]), "n", NOW, HOUR, 2) == [None, 1]
    assert levels(samples([(30, 1)]), "another", NOW, HOUR, 2) == [None, None]
    assert levels(samples([(0, 5)]), "n", NOW, HOUR, 2) == [None, 5]


def test_a_rate_counts_a_minute_also_over_a_gap_and_passes_over_a_count_that_began_anew() -> None:
    found = rates(samples([(60, 100), (50, 200), (49, 230), (10, 5), (9, 6)]), "n", NOW, HOUR, 6)
    assert found == [None, 30, None, None, None, 1]


def test_the_smallest_value_above_zero_is_seen_and_a_line_of_zeros_is_flat() -> None:
    assert draw([0, 1, 1000]) == "▁▂█"
    assert draw([0, 0]) == "▁▁"
    assert draw([None, None]) == "  "
