"""Measures waking a session up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.cloud import storage

from bench.chats import ours, plain
from bench.harness import Bench, Reach, Row, Side, Sides
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

MESSAGES = 1_000


@contextmanager
def restores(bench: Bench) -> Iterator[Sides]:
    """One session, which is always in the archive, and in Redis only after a restore."""
    times = bench.size(20, 10)
    elements = ours(plain(MESSAGES))
    with bench.client() as client:
        services = bench.services(bench.bucket_url())
        services.sessions.append("asleep", elements)
        archived = archive_session(services, "asleep")
        bucket, _, prefix = services.archive.url.removeprefix("gs://").partition("/")
        google_bucket: Any = storage.Client().bucket(bucket)
        blob = google_bucket.blob(f"{prefix}/{archived.object_name}")

        def restore() -> None:
            assert restore_session(services, "asleep").messages == MESSAGES

        def fill() -> None:
            assert blob.download_as_bytes(raw_download=True)
            client.rpush("asleep", *elements)

        def milliseconds(act: Any) -> float:
            taken = 0.0
            for _ in range(times):
                taken += bench.clock.seconds(act)
                client.flushall()
            return taken / times * 1_000

        yield Sides(ours=lambda: milliseconds(restore), floor=lambda: milliseconds(fill))


ROWS = [
    Row(
        "restore",
        "restore a 1,000-message session",
        "ms",
        restores,
        [Reach(1.5, Side.FLOOR)],
        "`restore_session`: begin, list, download, unpack and check, stage, finish",
        floor="download of the object by Google's client, and one RPUSH of ready bytes",
        why="A listing comes before the download, so that nothing is missed, and each line is unpacked and checked, "
        "while the floor has ready bytes. Then the messages go through a staging list, so that the restore is atomic.",
    ),
]
