"""Messages of the largest size: what each job adds to its memory."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from support.peak import measured
from torpor.history.protocol import MAX_MESSAGE_BYTES
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session

# docs/security.md says so: beside a fixed 16 MiB, so many times the size of the message.
FIXED_BYTES = 16 * 1024 * 1024
TIMES = 4.5
JOBS = ["archive SESSION", "restore_session", "show SESSION", "show SESSION --json", "export SESSION"]


def message_of(content: str) -> bytes:
    return json.dumps({"type": "human", "data": {"content": content}}).encode()


def one(rng: random.Random) -> list[bytes]:
    return [message_of("".join(rng.choices("abcdefghij klmnop", k=MAX_MESSAGE_BYTES - 100)))]


def three(rng: random.Random) -> list[bytes]:
    return one(rng) * 3


def not_json(rng: random.Random) -> list[bytes]:
    return [rng.randbytes(MAX_MESSAGE_BYTES).replace(b"\x01", b"").replace(b"\x02", b"")]


def of_many_strings(rng: random.Random) -> list[bytes]:
    part = json.dumps({"type": "text", "text": "".join(rng.choices("abcdefghij klmnop", k=1_000))})
    blocks = ",".join([part] * ((MAX_MESSAGE_BYTES - 100) // (len(part) + 1)))
    return [b'{"type":"human","data":{"content":[%b]}}' % blocks.encode()]


def of_many_lists(_: random.Random) -> list[bytes]:
    return [b'{"type":"human","data":{"content":[%b[]]}}' % (b"[]," * ((MAX_MESSAGE_BYTES - 100) // 3))]


MESSAGES = [one, three, not_json, of_many_strings, of_many_lists]


@pytest.mark.parametrize("elements", MESSAGES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("job", JOBS)
def test_a_message_of_the_largest_size_costs_a_few_times_its_size(
    services: Services, job: str, elements: Callable[[random.Random], list[bytes]]
) -> None:
    rng = random.Random(1)
    # As an object above 4 MiB, so that what is imported for the first one in a bucket does not count.
    small = [message_of(rng.randbytes(24_000).hex()) for _ in range(220)]
    for session, stored in (("tiny", small), ("hostile", elements(rng))):
        services.sessions.append(session, stored, max_depth=None)
        if not job.startswith("archive"):
            archive_session(services, session)
    done = measured(services, *job.split())
    times = (done.added - FIXED_BYTES) / MAX_MESSAGE_BYTES
    said = f"{services.archive.url.partition(':')[0]}, {job}, {elements.__name__}: 16 MiB + {times:.1f} times"
    print(said)  # noqa: T201 - pytest -s shows it
    assert times <= TIMES
