"""Putting sessions to sleep: CPU, how many at a time, and the memory that a huge one takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from unittest.mock import patch

from bench.chats import ours, plain, session_ids, theirs
from bench.distant import LATENCY, distant_bucket
from bench.harness import Bench, Reach, Row, Setup, Side, Sides
from bench.rivals import PlainScript
from support.huge_session import MIB, added_memory, write
from torpor.history.protocol import Expiry
from torpor.worker import measures
from torpor.worker.archive.stores import measured
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.drain import drain

MESSAGES = 20
THREADS = 16
MANY_THREADS = 64


def _due(services: Services, count: int, *, owned: bool) -> None:
    """Write sessions of 20 messages that are due at once."""
    elements = ours(plain(MESSAGES))
    for session_id in session_ids(count):
        owner = f"user-{session_id}" if owned else None
        services.sessions.append(session_id, elements, expiry=Expiry.of_seconds(3_600), owner=owner)
        services.sessions.close(session_id)


def _ready(services: Services) -> Services:
    """The same services after a first upload, because Google's client connects at its first one."""
    _due(services, 1, owned=False)
    _drain(services, 1)
    return services


def _drain(services: Services, count: int) -> None:
    outcomes = drain(services, list(services.sessions.due_counts()))
    assert outcomes == {"archived": count}, outcomes


def _written(bench: Bench, count: int, archive_url: str, threads: int) -> tuple[PlainScript, list[str]]:
    """A plain script, and the lists for it to archive."""
    client = bench.server.client()
    elements = theirs(plain(MESSAGES))
    first, *keys = session_ids(1 + count)
    for key in (first, *keys):
        client.rpush(key, *elements)
    script = PlainScript(client, archive_url, threads)
    script.archive([first])  # Google's client connects at its first upload
    return script, keys


def _cpu(*, owned: bool) -> Setup:
    @contextmanager
    def sides(bench: Bench) -> Iterator[Sides]:
        count = bench.size(400, 100)

        def microseconds(act: Callable[[], object]) -> float:
            return bench.clock.cpu_seconds(act) / count * 1e6

        def of_ours() -> float:
            services = _ready(bench.services(bench.bucket_url(), concurrency=THREADS))
            _due(services, count, owned=owned)
            return microseconds(partial(_drain, services, count))

        def of_peer() -> float:
            script, keys = _written(bench, count, bench.bucket_url(), THREADS)
            return microseconds(partial(script.archive, keys))

        with bench.client():
            yield Sides(of_ours, of_peer)

    return sides


@contextmanager
def _unmeasured() -> Iterator[None]:
    """Archive without counting or timing anything, and with nothing of that to send to Redis."""
    with (
        patch.object(measures, "count", lambda _: None),
        patch.object(measures, "observe", lambda *_: None),
        patch.object(measures, "take", dict),
        patch.object(measured, "_measured", lambda _: nullcontext()),
    ):
        yield


@contextmanager
def measured_cpu(bench: Bench) -> Iterator[Sides]:
    """The same work with and without measures, in one process, in turns."""
    count = bench.size(400, 100)

    def microseconds() -> float:
        services = _ready(bench.services(bench.bucket_url(), concurrency=THREADS))
        _due(services, count, owned=False)
        return bench.clock.cpu_seconds(partial(_drain, services, count)) / count * 1e6

    def without() -> float:
        with _unmeasured():
            return microseconds()

    with bench.client():
        yield Sides(microseconds, floor=without)


@contextmanager
def rate(bench: Bench) -> Iterator[Sides]:
    """The store answers after 75 ms."""
    count = bench.size(20, 4) * MANY_THREADS

    def a_second(act: Callable[[], object]) -> float:
        return count / bench.clock.seconds(act, threaded=True)

    with bench.client(), distant_bucket(bench.folder) as archive_url:

        def of_ours() -> float:
            services = _ready(bench.services(archive_url, concurrency=MANY_THREADS))
            _due(services, count, owned=False)
            return a_second(partial(_drain, services, count))

        def of_peer() -> float:
            script, keys = _written(bench, count, archive_url, MANY_THREADS)
            return a_second(partial(script.archive, keys))

        yield Sides(of_ours, of_peer, lambda: MANY_THREADS / LATENCY)


@contextmanager
def memory_to_archive(bench: Bench) -> Iterator[Sides]:
    """A session of 100,000 messages, written again for each measurement."""
    with bench.client() as client:
        services = bench.services(bench.bucket_url())

        def mebibytes(job: str) -> float:
            services.sessions.append("tiny", [b"{}"])
            write(services.sessions)
            added = added_memory(job, services)
            client.flushall()
            return added / MIB

        yield Sides(ours=lambda: mebibytes("archive"), peer=lambda: mebibytes("plain"))


@contextmanager
def memory_to_restore(bench: Bench) -> Iterator[Sides]:
    """The same session, archived once."""
    with bench.client() as client:
        services = bench.services(bench.bucket_url())
        services.sessions.append("tiny", [b"{}"])
        write(services.sessions)
        added_memory("archive", services)

        def mebibytes() -> float:
            added = added_memory("restore", services)
            client.flushall()
            return added / MIB

        yield Sides(ours=mebibytes)


_PLAIN = "a plain script with as many threads and connections: LRANGE, gzip 6, `upload_from_string`, DEL"

ROWS = [
    Row(
        "archive",
        "archive 20-message sessions: client CPU each",
        "µs",
        _cpu(owned=False),
        [Reach(0.6, Side.PEER, stretch=0.35)],
        f"`drain` with {THREADS} threads, claim to commit, to the emulator; all threads of the process",
        _PLAIN,
        why="An upload over a connection of our own takes a seventh of what Google's client does for one. What is left "
        "is mostly what the plain script has not: lease, snapshot, a checked upload, an atomic commit, an event.",
    ),
    Row(
        "archive-owned",
        "the same with an owner, whose marker is a second object",
        "µs",
        _cpu(owned=True),
        (),
        "as above",
        "the plain script, which knows no owners",
        most_rounds=5,
    ),
    Row(
        "measures",
        "the same with and without what metrics measure",
        "µs",
        measured_cpu,
        [Reach(1.03, Side.FLOOR)],
        "as in the row before the last",
        floor="the same, where nothing is counted, timed or sent to Redis",
        short=True,
    ),
    Row(
        "rate",
        "sessions a second with 75 ms before the store, one process",
        "a second",
        rate,
        [Reach(0.85, Side.FLOOR, at_least=True)],
        f"`drain` with {MANY_THREADS} threads; the store is a process that "
        "takes what it is sent and answers after 75 ms (`tests/bench/distant.py`), since the emulator and the "
        "client would take more than two cores at this rate",
        f"{_PLAIN}, to the same store",
        "threads / latency, the limit",
        "Python runs one thread at a time, so one whose answer has come waits for the others' turns, a millisecond of "
        "CPU a session. And in the first and the last 75 ms not every thread has a session to wait for.",
        most_rounds=5,
    ),
    Row(
        "memory-archive",
        "archive a 50 MB session: added peak memory",
        "MiB",
        memory_to_archive,
        [Reach(16)],
        "peak RSS of a process that has archived a small session before, less what it was",
        "the plain script: LRANGE of all messages, gzip, upload",
        most_rounds=5,
        warm=False,
        profiled=False,
    ),
    Row(
        "memory-restore",
        "restore it: added peak memory",
        "MiB",
        memory_to_restore,
        [Reach(16)],
        "likewise",
        most_rounds=5,
        warm=False,
        profiled=False,
    ),
]
