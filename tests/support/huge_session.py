"""A session of 100,000 messages and 50 MB, and the memory that a process of its own adds to archive or restore it."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys

from torpor.history.protocol import SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment

MIB = 1024 * 1024
MESSAGES = 100_000

# Like a worker: connect, do a small job, and then the measured one.
WORKER = """
import gzip, json, sys
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session
from torpor.worker.deployment.services import connect
from torpor.worker.deployment.settings import load_settings

def memory(what):
    [line] = [line for line in open("/proc/self/status") if line.startswith(what)]
    return int(line.split()[1])

def plain(services, session):  # what a script of a few lines does
    from google.cloud import storage
    [key] = services.sessions.client.keys("*:m:" + session)
    body = gzip.compress(b"\\n".join(services.sessions.client.lrange(key, 0, -1)), 6)
    bucket = services.archive.url.removeprefix("gs://").partition("/")[0]
    storage.Client().bucket(bucket).blob(session).upload_from_string(body)

services = connect(load_settings())
job = {"archive": archive_session, "restore": restore_session, "plain": plain}[sys.argv[1]]
if job is plain:
    plain(services, "tiny")
else:
    archive_session(services, "tiny")
    restore_session(services, "tiny")
idle = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
result = job(services, "huge")
if job is not plain:
    assert (result.outcome[:-1], result.messages) == (sys.argv[1], 100_000), result
print(json.dumps({"idle": idle, "peak": memory("VmHWM")}))
"""


def message(number: int, rng: random.Random) -> bytes:
    """About 500 bytes, hard to compress, so that the segment is too large for one upload request."""
    return b'{"type":"human","data":{"content":"%d %b"}}' % (number, rng.randbytes(228).hex().encode())


def write(sessions: SessionStore) -> tuple[str, int]:
    """Write the session; returns the SHA-256 and the size of its elements, each with its length."""
    rng = random.Random(1)
    digest = hashlib.sha256()
    size = 0
    for first in range(0, MESSAGES, 1_000):
        page = [message(number, rng) for number in range(first, first + 1_000)]
        sessions.append("huge", page)
        for element in page:
            digest.update(b"%d:%b" % (len(element), element))
            size += len(element)
    return digest.hexdigest(), size


def added_memory(job: str, services: Services) -> int:
    """Bytes that the job, `archive`, `restore` or `plain`, adds to a worker's memory at its peak."""
    command = [sys.executable, "-c", WORKER, job]
    done = subprocess.run(command, env=environment(services.settings), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    return int(measured["peak"] - measured["idle"]) * 1024
