"""How the command orders an export as a job."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from torpor.history.protocol import InvalidArgument, TorporError
from torpor.worker.audit.act import Act
from torpor.worker.audit.trail import Who
from torpor.worker.bulk import exporting
from torpor.worker.cli import jobs, printing
from torpor.worker.deployment.services import Services

may_be_shared = exporting.may_be_shared


def share(
    services: Services, target: str, rate: float | None, who: Who, *, tables: bool, detach: bool, as_json: bool
) -> None:
    """Order the export of all sessions, and take part in it unless the command is to `detach`."""
    if tables:
        parquet()
    form = exporting.Form.PARQUET if tables else exporting.Form.JSON_LINES
    given = exporting.arguments(services, form, target)
    standing = jobs.order(services, Act.EXPORT, who, exporting.NAME, given, rate=rate, detach=detach)
    if jobs.told_detached(standing, as_json=as_json) or standing.result is None:
        return
    failed = standing.result.noted.get(exporting.FAILED, 0)
    if as_json:
        printing.print_json({"sessions": standing.sessions, "failed": failed, "to": target, "job": standing.job})
    else:
        printing.say(f"exported: {standing.sessions:,} sessions, to {printing.one_line(target)}; job {standing.job}")
    for note in standing.result.notes:
        printing.warn(f"not exported: {printing.one_line(str(note.name))}: {printing.one_line(note.detail)}")
    jobs.check(standing)
    if failed:
        raise TorporError(f"{failed:,} sessions could not be exported; the others are in {target}")


def parquet() -> ModuleType:
    """The module that writes Parquet files; raises InvalidArgument if its package is missing."""
    try:
        return import_module("torpor.worker.transfer.parquet")
    except ModuleNotFoundError as exc:
        raise InvalidArgument(
            f"--parquet needs a package that is missing: pip install 'torpor[parquet]' ({exc})"
        ) from exc
