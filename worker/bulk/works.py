"""All works by the names that orders have."""

from __future__ import annotations

from torpor.worker.bulk import adopting, examining, exporting
from torpor.worker.jobs.work import Works

WORKS: Works = {
    adopting.NAME: adopting.Adoption.of,
    exporting.NAME: exporting.Export.of,
    examining.NAME: examining.Examination.of,
}
