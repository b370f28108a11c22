"""Each key of a deployment that is not of a session, with a value of another type: who meets it names it."""

from __future__ import annotations

import logging

import pytest
import redis

from support.command import Torpor
from support.keyspace import raw
from torpor.history.keys import single_keys
from torpor.history.protocol import RedisRefused
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring import samples
from torpor.worker.monitoring.health import RedisQuestion
from torpor.worker.monitoring.presence import apart_from_work, note_sweep
from torpor.worker.ops.doctor import examine
from torpor.worker.ops.finding import Ailment

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)

SAID = b'{"type": "human", "data": {"content": "hello"}}'
SINGLE = [key.decode() for key in single_keys("torpor")]
CONFIG = "torpor:config"
EVENTS = "torpor:events"
# The keys of which a command needs one.
NEEDED = {
    "status": {CONFIG, "{torpor:events}:archive", "{torpor:events}:measures", "{torpor:events}:seen"},
    "top": {CONFIG, "{torpor:events}:archive", "{torpor:events}:measures", "{torpor:events}:seen"}
    | {"{torpor:events}:samples"},
    "doctor": {CONFIG},
    "events": {EVENTS, CONFIG},
}


def overwrite(client: redis.Redis, key: str) -> None:
    raw(client, "DEL", key)
    raw(client, "SET", key, "another program's")


@pytest.mark.parametrize("key", [key for key in SINGLE if key != CONFIG])
def test_the_doctor_finds_a_key_of_another_type_and_goes_on(client: redis.Redis, services: Services, key: str) -> None:
    services.sessions.append("s", [SAID])
    overwrite(client, key)
    [finding] = examine(services, repair=True)
    assert (finding.ailment, finding.repaired) == (Ailment.KEY_OF_OTHER_TYPE, False)
    wanted = single_keys("torpor")[key.encode()]
    assert finding.detail == f"{key} is a string, and Torpor's is a {wanted}: delete or rename it"
    assert raw(client, "GET", key) == b"another program's"


@pytest.mark.parametrize("part", ["t", "h", "a", "l"])
def test_the_doctor_finds_a_key_of_a_shard_that_is_of_another_type(
    client: redis.Redis, services: Services, part: str
) -> None:
    services.sessions.append("s", [SAID])
    key = f"{{torpor:3}}:{part}"
    raw(client, "RPUSH", key, "another program's")
    found = [each for each in examine(services) if each.ailment is Ailment.KEY_OF_OTHER_TYPE]
    assert [each.detail and each.detail.partition(",")[0] for each in found] == [f"{key} is a list"]


@pytest.mark.parametrize("key", SINGLE)
@pytest.mark.parametrize("command", NEEDED)
def test_a_command_that_needs_the_key_names_it_and_another_one_works(
    client: redis.Redis, services: Services, torpor: Torpor, command: str, key: str
) -> None:
    services.sessions.append("s", [SAID])
    overwrite(client, key)
    done = torpor(command, *(["--once"] if command == "top" else []))
    if key in NEEDED[command]:
        assert done.code not in (0, 2)
        assert key in done.err
        assert "torpor doctor" in done.err
    else:
        assert "WRONGTYPE" not in done.said
        assert "Traceback" not in done.said


def test_the_probe_of_readiness_names_the_configuration(client: redis.Redis, services: Services) -> None:
    services.sessions.append("s", [SAID])
    overwrite(client, CONFIG)
    with pytest.raises(RedisRefused, match="torpor:config is not Torpor's"):
        RedisQuestion(lambda: services)()


def test_workers_log_the_key_into_which_they_cannot_write(
    client: redis.Redis, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    services.sessions.append("s", [SAID])
    for key in ("{torpor:events}:seen", "{torpor:events}:samples"):
        overwrite(client, key)
    with caplog.at_level(logging.ERROR):
        note_sweep(services)
        with apart_from_work():
            samples.take(services)
    for record, key in zip(caplog.records, ("{torpor:events}:seen", "{torpor:events}:samples"), strict=True):
        assert f"{key} is not Torpor's" in record.getMessage()
