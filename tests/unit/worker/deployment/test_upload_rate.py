"""The upload rate limits all threads together."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from torpor.worker.deployment.upload_rate import UploadRate


def test_threads_together_go_no_faster_than_the_rate() -> None:
    pace = UploadRate(50)
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: pace.wait(), range(75)))
    assert time.monotonic() - begun >= 0.4, "50 at once, and 25 more at 50 a second"


def test_without_a_rate_nobody_waits() -> None:
    pace = UploadRate()
    begun = time.monotonic()
    for _ in range(10_000):
        pace.wait()
    assert time.monotonic() - begun < 5
