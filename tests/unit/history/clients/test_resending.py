"""How often calls look for a free connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from torpor.history.clients.kinds import Translation
from torpor.history.clients.resending import Resending, persistently
from torpor.history.errors import NoFreeConnection, TorporError

BUSY = NoFreeConnection("all connections are in use")


@pytest.fixture
def many() -> Iterator[list[Resending]]:
    """A thousand calls that wait."""
    waiting = [Resending() for _ in range(1_000)]
    for each in waiting:
        each.pause_after(BUSY, repeatable=True)
    yield waiting
    for each in waiting:
        each.end()


def pauses(waiting: list[Resending]) -> list[float]:
    found = [each.pause_after(BUSY, repeatable=False) for each in waiting]
    return [pause for pause in found if pause is not None]


def test_a_thousand_calls_that_wait_look_about_two_thousand_times_a_second_together(many: list[Resending]) -> None:
    found = pauses(many)
    assert len(found) == len(many)
    mean_seconds = sum(found) / len(found)
    assert 1_500 < len(found) / mean_seconds < 2_700
    for each in many[1:]:
        each.end()
    assert max(pauses(many[:1])) <= 0.04


def test_a_call_that_has_ended_waits_no_more_however_it_ended() -> None:
    found: list[float] = []

    async def pause(seconds: float) -> None:
        found.append(seconds)

    async def fail_after(count: int, error: TorporError) -> None:
        raise BUSY if len(found) < count else error

    for _ in range(200):
        found.clear()
        with pytest.raises(TorporError, match="over"):
            asyncio.run(
                persistently(
                    lambda: fail_after(2, TorporError("over")),
                    translated=Translation(()),
                    resending=Resending,
                    pause=pause,
                    repeatable=True,
                )
            )
    assert max(found) <= 0.04
