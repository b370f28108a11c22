"""What the workers note of the archive: when it has last worked, when it has failed, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from torpor.history.calls.call import Call, Deployment, span_ms, to_moment
from torpor.history.keys import archive_health_key
from torpor.history.scripts import script
from torpor.history.session import ArchiveHealth, ArchiveState, WorkerNote


def note_archive(
    deployment: Deployment, worker: str, *, note: bytes, error: str, counts: timedelta, kept: timedelta
) -> Call[ArchiveState | None]:
    """Note that the archive has worked for a worker, or its error; returns the archive's state if this changes it.

    `note` is a random id. A failure counts for the span `counts` if its worker notes nothing more; a worker's notes are
    forgotten after the span `kept`.
    """
    named, why = worker.encode(errors="replace"), error.encode(errors="replace")
    return Call(
        script("note_archive"),
        [archive_health_key(deployment.keyspace.namespace)],
        [named, note, why, span_ms(counts), span_ms(kept)],
        lambda reply: ArchiveState(reply.decode()) if reply else None,
    )


def archive_health(deployment: Deployment) -> Call[ArchiveHealth]:
    """Read the notes of all workers."""

    def decode(reply: Sequence[bytes]) -> ArchiveHealth:
        fields = dict(zip(reply[::2], reply[1::2], strict=True))
        since = fields.get(b"unavailable_since")
        return ArchiveHealth(to_moment(since) if since else None, sorted(_notes(fields), key=lambda each: each.worker))

    return Call(script("archive_health"), [archive_health_key(deployment.keyspace.namespace)], [], decode)


def _notes(fields: dict[bytes, bytes]) -> Iterator[WorkerNote]:
    for field, value in fields.items():
        if field.startswith(b"w"):
            worked, failed, error = value.split(b":", 2)
            yield WorkerNote(
                field[1:].decode(errors="replace"),
                to_moment(worked) if int(worked) else None,
                to_moment(failed) if int(failed) else None,
                error.decode(errors="replace") or None,
            )
