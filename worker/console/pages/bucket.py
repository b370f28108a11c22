"""The archive's own rules, and what is wrong with them."""

from __future__ import annotations

from starlette.responses import Response

from torpor.worker.console.visit import Visit
from torpor.worker.ops import bucket_check


def show(visit: Visit) -> Response:
    """The rules of the bucket. Changing them is left to the command."""
    archive = visit.services.archive
    found = archive.safeguards()
    warnings = list(bucket_check.warnings(found)) if found else []
    return visit.page("bucket.html", archive=archive.url, facts=bucket_check.facts(found), wrong=warnings)
