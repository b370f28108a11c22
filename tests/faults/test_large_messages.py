"""A message of the largest size: what each job adds to its memory."""

from __future__ import annotations

import json
import random

import pytest

from support.peak import measured
from torpor.history.protocol import MAX_MESSAGE_BYTES
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session

# Each holds the message once or twice as bytes and as text, beside what the client and the JSON reader hold.
JOBS = ["archive SESSION", "restore_session", "show SESSION", "show SESSION --json", "export SESSION"]


@pytest.mark.parametrize("job", JOBS)
def test_a_message_of_the_largest_size_costs_a_few_times_its_size(services: Services, job: str) -> None:
    rng = random.Random(1)
    content = "".join(rng.choices("abcdefghij klmnop", k=MAX_MESSAGE_BYTES - 100))
    message = json.dumps({"type": "human", "data": {"content": content}}).encode()
    for session, elements in (("tiny", [b'{"type":"human","data":{"content":"hi"}}']), ("hostile", [message])):
        services.sessions.append(session, elements)
        if not job.startswith("archive"):
            archive_session(services, session)
    done = measured(services, *job.split())
    times = done.added / MAX_MESSAGE_BYTES
    print(f"{services.archive.url.partition(':')[0]}, {job}: {times:.1f} times")  # noqa: T201 - pytest -s shows it
    assert times <= 8
