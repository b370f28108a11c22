"""The answer to a request for access, as the command makes it."""

from __future__ import annotations

from pathlib import Path

from torpor.history.protocol import InvalidArgument, TorporError
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.cli import printing
from torpor.worker.cli.audited import audited
from torpor.worker.cli.shared import warn_of_look_alikes
from torpor.worker.deployment.services import Services


def answer(services: Services, owner: str, folder: Path, who: Who, *, as_json: bool) -> None:
    """Copy an owner's sessions to a folder and tell what it has; raises TorporError if some were omitted."""
    from torpor.worker.access.answer import answer as copy_all  # loads LangChain

    warn_of_look_alikes(services, owner)
    with audited(services, Act.EXPORT, who, Subject(owner=owner)) as count, printing.working("copying") as status:
        try:
            manifest = copy_all(
                services,
                owner,
                folder,
                by=who.by,
                reason=who.reason,
                progress=lambda looked_at: status.update(f"copying: {looked_at:,} sessions"),
            )
        except OSError as exc:
            raise InvalidArgument(f"{folder} can't be written: {exc.strerror or exc}") from exc
        count.sessions = manifest.copied.sessions
    there = printing.one_line(str(folder))
    sessions, messages = manifest.copied.sessions, manifest.copied.messages
    if as_json:
        kept = {"unreadable": manifest.unreadable, "failed": manifest.omitted}
        printing.print_json({"sessions": sessions, "messages": messages, **kept, "to": str(folder)})
    else:
        printing.say(f"copied: {sessions:,} sessions, {messages:,} messages, to {there}")
    if manifest.unreadable:
        printing.warn(f"{manifest.unreadable:,} messages are in the JSON lines and can't be shown as text")
    if manifest.omitted:
        raise TorporError(f"{manifest.omitted:,} sessions were omitted: the manifests in {there} say why")
