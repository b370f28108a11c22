"""A few cases of each kind of `make fuzz`: nothing crashes, hangs, takes much memory or harms the next session."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import redis

from fuzz.documents import DOCUMENTS
from fuzz.harness import BUCKET, KINDS, harness, quiet
from support.servers import RedisServer

pytestmark = pytest.mark.slow

CASES = 3


@pytest.mark.single_node(reason="the harness finds its keys by KEYS, and writes lists of other libraries beside them")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_no_case_harms_anything(client: redis.Redis, redis_server: RedisServer, scratch: Path, kind: str) -> None:
    cases = harness(client, scratch / "archive", redis_server.settings)
    with quiet():
        for number in range(CASES):
            cases.run(kind, random.Random(f"quick {kind} {number}"))


@pytest.mark.single_node(reason="the harness finds its keys by KEYS")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["object: metadata", "object: times", *(f"document: {name}" for name in DOCUMENTS)])
def test_no_case_in_a_bucket_harms_anything(
    client: redis.Redis, redis_server: RedisServer, scratch: Path, emulator: str, kind: str
) -> None:
    cases = harness(client, scratch / "archive", redis_server.settings, emulator)
    with quiet():
        cases.run(kind, random.Random(f"bucket {kind}"), BUCKET)
