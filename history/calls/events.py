"""What has happened to sessions, and what the workers note of the archive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain

from torpor.history.calls.call import Call, Deployment, span_ms, to_moment_or_none
from torpor.history.keys import archive_health_key, events_key, measures_key
from torpor.history.overview import ArchiveHealth, ArchiveNote, ArchiveState, WorkerHealth
from torpor.history.scripts import script

_NONE: Mapping[str, int] = {}


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
    """Read the notes of all workers."""
    return Call(script("archive_health"), [archive_health_key(deployment.keyspace.namespace)], [], _health)


def _health(reply: Sequence[bytes]) -> ArchiveHealth:
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    since = to_moment_or_none(fields.pop(b"unavailable_since", None))
    notes: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
    for field, value in fields.items():
        what, _, worker = field.partition(b":")
        notes[worker][what] = value
    return ArchiveHealth(
        since,
        [
            WorkerHealth(
                worker=worker.decode(errors="replace"),
                is_failing=b"failing" in note,
                last_success=to_moment_or_none(note.get(b"worked")),
                last_failure=to_moment_or_none(note.get(b"failed")),
                error=note.get(b"error", b"").decode(errors="replace") or None,
            )
            for worker, note in sorted(notes.items())
        ],
    )
