"""What has happened to sessions, and what the workers note of the archive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain

from torpor.history.calls.call import Call, Deployment, span_ms, to_moment_if_readable
from torpor.history.keys import archive_health_key, events_key, measures_key
from torpor.history.overview import ArchiveHealth, ArchiveNote, ArchiveState, WorkerHealth
from torpor.history.scripts import script

_NONE: Mapping[str, int] = {}
_LONG_AGO = datetime.fromtimestamp(0, UTC)


def add_events(
    deployment: Deployment,
    events: Sequence[Mapping[str, str]],
    *,
    keep: int,
    note: ArchiveNote | None = None,
    measures: Mapping[str, int] = _NONE,
) -> Call[ArchiveState | None]:
    """Add events to the deployment's stream, which keeps about the last `keep` of them, and note the archive's health.

    The `measures` are added to those of the deployment. Returns the archive's state if the note has changed it. Then
    the stream has an event of the change, too.
    """
    args: list[bytes | int] = [keep, b"", b"", b"", b""]
    if note:
        worker, error = note.worker.encode(errors="replace"), note.error.encode(errors="replace")
        args = [keep, worker, error, span_ms(note.counts), span_ms(note.kept)]
    args.append(len(measures))
    for field, added in measures.items():
        args += [field.encode(), added]
    for event in events:
        args.append(2 * len(event))
        args += [part.encode(errors="replace") for part in chain.from_iterable(event.items())]
    namespace = deployment.keyspace.namespace
    return Call(
        script("add_events"),
        [events_key(namespace), archive_health_key(namespace), measures_key(namespace)],
        args,
        lambda reply: ArchiveState(reply.decode()) if reply else None,
        repeatable=False,
    )


def archive_health(deployment: Deployment) -> Call[ArchiveHealth]:
    """Read the notes of all workers. What can't be read of a note is named in the place of its error."""
    return Call(script("archive_health"), [archive_health_key(deployment.keyspace.namespace)], [], _health)


def _health(reply: Sequence[bytes]) -> ArchiveHealth:
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    since = fields.pop(b"unavailable_since", None)
    notes: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
    for field, value in fields.items():
        what, _, worker = field.partition(b":")
        notes[worker][what] = value
    workers = [_worker_health(worker.decode(errors="replace"), note) for worker, note in sorted(notes.items())]
    failed = [worker.last_failure for worker in workers if worker.last_failure]
    # Since a moment that can't be read, the archive is unavailable all the same.
    unavailable = to_moment_if_readable(since) or max(failed, default=_LONG_AGO)
    return ArchiveHealth(unavailable if since else None, workers)


def _worker_health(worker: str, note: Mapping[bytes, bytes]) -> WorkerHealth:
    moments = {what: to_moment_if_readable(note.get(what)) for what in (b"worked", b"failed")}
    damaged = [f"{what.decode()}:{worker}" for what, at in moments.items() if note.get(what) and not at]
    error = note.get(b"error", b"").decode(errors="replace")
    if damaged:
        error = f"a field of the hash of the archive's health is damaged, delete it: {', '.join(damaged)}"
    return WorkerHealth(
        worker=worker,
        is_failing=b"failing" in note,
        last_success=moments[b"worked"],
        last_failure=moments[b"failed"],
        error=error or None,
    )
