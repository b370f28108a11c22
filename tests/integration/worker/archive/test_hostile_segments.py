"""Segments that unpack to more than a reader should hold: refused, or read, within 16 MiB."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support import hostile
from support.huge_session import MIB
from support.keyspace import dump, raw
from support.peak import measured
from torpor.history.protocol import MAX_MESSAGE_BYTES
from torpor.worker.archive import names
from torpor.worker.archive.stores import StoredObject
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.read import open_transcript
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow

BOUND = 16 * MIB
LINE = "it unpacks to a message of more than 16,777,216 bytes"

folder = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)

REFUSED: dict[str, tuple[Callable[[Services], object], str]] = {
    "one message of 100 MB": (lambda services: hostile.put(services, hostile.one_message(100), 1), LINE),
    "one of 100 MB in base64": (lambda services: hostile.put(services, hostile.one_message(100, "raw"), 1), LINE),
    "a line of 100 MB without an end": (lambda services: hostile.put(services, hostile.no_end(100), 1), LINE),
    "more messages than its name says": (
        lambda services: hostile.put(services, hostile.many_messages(200_000), 10),
        "it ends after message",
    ),
}
READING = [
    ["restore_session"],
    ["show", "SESSION"],
    ["show", "SESSION", "--json"],
    ["export", "SESSION"],
    ["export", "SESSION", "--to-memorystore"],
]


@pytest.fixture
def tiny(services: Services) -> None:
    """A session that sleeps, on which each process warms up."""
    services.sessions.append("tiny", [b'{"type":"human","data":{"content":"hi"}}'])
    assert archive_session(services, "tiny").outcome is Outcome.ARCHIVED


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("arguments", READING, ids=" ".join)
@folder
def test_what_is_more_than_a_reader_should_hold_is_refused_within_16_mib(
    services: Services, client: redis.Redis, kind: str, arguments: list[str]
) -> None:
    make, says = REFUSED[kind]
    make(services)
    done = measured(services, *arguments)
    assert says in f"{done.said} {done.result}", done
    assert done.added <= BOUND, f"{done.added / MIB:.1f} MiB"
    assert not any(b"hostile" in key and b":s:" not in key for key in dump(client)), "a part of it is in Redis"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "arguments", [*READING[1:], ["doctor"], ["purge", "--session", "SESSION", "--dry-run"]], ids=" ".join
)
@folder
def test_many_messages_are_read_within_16_mib(services: Services, arguments: list[str]) -> None:
    hostile.put(services, hostile.many_messages(60_000, b"x" * 500), 60_000)
    done = measured(services, *arguments)
    assert done.result in (0, None), done
    assert done.added <= BOUND, f"{done.added / MIB:.1f} MiB"


@pytest.mark.usefixtures("tiny")
@folder
def test_segments_that_overlap_are_compared_within_16_mib(services: Services) -> None:
    hostile.put(services, hostile.many_messages(200_000), 200_000)
    hostile.put(services, hostile.many_messages(210_000), 210_000)
    done = measured(services, "show", "SESSION", "--json")
    assert done.result in (0, None), done
    assert done.added <= BOUND, f"{done.added / MIB:.1f} MiB"


@pytest.mark.parametrize("name", [names.PURGES.order("p"), names.PURGES.result("p")])
@folder
def test_a_document_of_300_mb_is_damaged_within_16_mib(services: Services, tmp_path: Path, name: str) -> None:
    path = Path(services.archive.url.removeprefix("file://")) / name
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(300 * MIB)
    done = measured(services, "purge", "--resume", "p")
    assert done.added <= BOUND, f"{done.added / MIB:.1f} MiB"


# What an older version has left


def large(size: int) -> bytes:
    return b'{"type":"human","data":{"content":"%b"}}' % (b"x" * size)


def test_a_message_above_the_limit_is_not_compressed_and_so_it_can_be_read(
    services: Services, client: redis.Redis
) -> None:
    said = [large(10), large(MAX_MESSAGE_BYTES), b"[" * 20_000_000, large(11)]
    services.sessions.append("s", [large(10)])
    [key] = raw(client, "KEYS", "*:m:s")
    raw(client, "RPUSH", key, *said[1:])
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    [stored] = segments(services)
    assert stored.size > 2 * MAX_MESSAGE_BYTES
    with services.archive.open(stored) as body, gzip.open(body) as unpacked:
        assert next(len(line) for line in unpacked) < 200
    assert restore_session(services, "s").messages == 4
    assert services.sessions.messages("s") == said


def test_a_compressed_one_is_read_with_a_higher_limit(services: Services) -> None:
    hostile.put(services, hostile.one_message(17), 1)
    allowed = services.settings.model_copy(update={"max_message_bytes": 20 * MIB})
    with open_transcript(Services(allowed, services.sessions, services.archive), "hostile") as transcript:
        assert [len(each) > 17 * MIB for each in transcript.elements] == [True]


def test_a_large_object_may_have_a_message_of_four_times_its_size(services: Services) -> None:
    stored = hostile.put(services, random_message(5 * MIB), 1)
    assert 4 * stored.size > 17 * MIB
    assert restore_session(services, "hostile").messages == 1


def random_message(half: int) -> list[bytes]:
    import random

    noise = random.Random(1).randbytes(half).hex().encode()
    return [hostile.head(0) + b'"' + noise + b"x" * 8 * MIB + b'"}\n']


def segments(services: Services) -> list[StoredObject]:
    return list(services.archive.list(names.session_prefix("s")))


def test_a_piece_ends_with_its_line_wherever_the_bounds_fall() -> None:
    from torpor.worker.archive.lines import _READ_BYTES as READ
    from torpor.worker.archive.lines import LineTooLong, pieces

    for size in (1, READ - 1, READ, READ + 1, 2 * READ - 1, 2 * READ, 2 * READ + 1, 5 * READ):
        for follows in (b"", b"b\n", b"c" * (3 * READ) + b"\n"):
            text = b"a" * (size - 1) + b"\n" + follows
            assert b"".join(pieces(io.BytesIO(gzip.compress(text)), 5 * READ)) == text
            assert all(piece.endswith(b"\n") for piece in pieces(io.BytesIO(gzip.compress(text)), 5 * READ))
    with pytest.raises(LineTooLong):
        list(pieces(io.BytesIO(gzip.compress(b"a\n" + b"b" * (5 * READ) + b"\n")), 5 * READ - 1))
    with pytest.raises(LineTooLong):
        list(pieces(io.BytesIO(gzip.compress(b"a" * (2 * READ) + b"\n" + b"b" * (5 * READ))), 5 * READ - 1))
