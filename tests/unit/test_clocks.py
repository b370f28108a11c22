"""Redis's clock decides about data. The few places that read a host's clock are listed here, each with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

from support.paths import ROOT

# The functions that read the clock of the host. A monotonic clock is none: it measures a span, for pacing.
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("date", "today"), ("time", "time"), ("time", "time_ns")}
WHY = {
    "history/clients/iam.py": "Google's token says when it ends, and Google refuses one that has ended",
    "worker/access/answer.py": "people read it in the manifest of a copy",
    "worker/archive/stores/gcs_errors.py": "people read it in a message, and in a receipt's `kept`",
    "worker/cli/sessions.py": "people read it: how long a session has been idle",
    "worker/cli/top.py": "people read it when Redis does not answer",
    "worker/console/admission.py": "a limit of requests, in this process alone",
    "worker/console/copies.py": "people read it: until when this process keeps a copy",
    "worker/console/pages/sessions.py": "people read it: how long a session has been idle",
    "worker/console/sign_in/signed_in.py": "the end of a sign-in, which this host has begun",
    "worker/erasure/order.py": "people read it, and doctor leaves an order alone that is new",
    "worker/jobs/job.py": "people read it",
    "worker/jobs/orders.py": "ids sort by the time at which people ordered",
}


def _reads_clock(path: Path) -> bool:
    called = [each.func for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)]
    return any(
        isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and (each.value.id, each.attr) in CLOCKS
        for each in called
    )


def test_a_host_s_clock_is_read_only_where_it_decides_nothing_about_data() -> None:
    sources = [path for folder in ("history", "worker") for path in sorted((ROOT / folder).rglob("*.py"))]
    reading = [str(path.relative_to(ROOT)) for path in sources if _reads_clock(path)]
    assert sorted(reading) == sorted(WHY)
