"""Workers that die without a word, machines without room, and metadata that is lost."""

from __future__ import annotations

import errno
import io
import tempfile
from typing import Any

import pytest
import redis

from support.keyspace import raw
from support.rewinding import (
    S,
    claimed_by_another_worker,
    described,
    drain_due,
    end_lease,
    keys,
    object_names,
    said,
    say,
    sleep,
    texts,
)
from support.sessions import with_settings
from support.transcripts import read_transcript
from torpor.history.protocol import (
    SessionDamaged,
    Status,
)
from torpor.worker.archive import ownership
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

# Workers that fail


def test_a_session_at_which_its_workers_die_goes_to_quarantine(client: redis.Redis, services: Services) -> None:
    say(client, "0")
    for _ in range(services.settings.max_attempts):
        claimed_by_another_worker(services)
        end_lease(client, services)
    assert drain_due(services) == {Outcome.QUARANTINED: 1}
    info = described(services)
    assert info.status is Status.QUARANTINED
    assert info.error == f"{services.settings.max_attempts} attempts ended without a word: their workers died"
    assert said(client) == ["0"]
    assert not ownership.is_used(services.archive)


def test_a_session_is_tried_as_often_as_the_settings_say_though_its_workers_die(
    client: redis.Redis, services: Services
) -> None:
    say(client, "0")
    for _ in range(services.settings.max_attempts - 1):
        claimed_by_another_worker(services)
        end_lease(client, services)
    assert drain_due(services) == {Outcome.ARCHIVED: 1}


class FullDisk(io.BytesIO):
    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def no_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("short", ["of disk", "of memory"])
def test_a_machine_that_is_short_of_room_postpones_and_blames_no_session(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    say(client, "0")
    with monkeypatch.context() as patch:
        if short == "of disk":
            patch.setattr(tempfile, "SpooledTemporaryFile", lambda **_: FullDisk())
        else:
            patch.setattr("torpor.worker.sleep.upload.pack", no_memory)
        for _ in range(services.settings.max_attempts + 1):
            assert archive_session(services, S).outcome is Outcome.POSTPONED
    info = described(services)
    assert (info.attempts, info.message_count, info.archived_count) == (0, 1, 0)
    assert not ownership.is_used(services.archive)
    sleep(services)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.QUARANTINED])
def test_the_text_of_an_unknown_error_is_told_to_nobody_but_where_it_happened_is(
    client: redis.Redis,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: Outcome,
) -> None:
    services = with_settings(services, max_attempts=1 if outcome is Outcome.QUARANTINED else 2)
    secret = "what the user confided"
    say(client, "0")

    def look_into(element: bytes) -> bool:
        raise ValueError(f"{secret}: {element!r}")

    monkeypatch.setattr("torpor.worker.archive.segment.is_plain", look_into)
    with caplog.at_level("DEBUG"):
        result = archive_session(services, S)
    assert (result.outcome, str(result.error)) == (outcome, "ValueError")
    assert described(services).error == "ValueError"
    assert secret not in repr(raw(client, "HGETALL", keys(services).metadata(S.encode())))
    [record] = [record for record in caplog.records if record.name == "torpor.archive"]
    assert record.getMessage().startswith(f"session 's': {outcome}: ValueError\n")
    assert "in look_into" in record.getMessage()
    assert record.exc_info is None
    assert secret not in caplog.text
    assert secret not in repr(result)


# Metadata that is lost


@pytest.mark.parametrize("woken", [False, True], ids=["never archived", "archived before"])
def test_a_session_whose_metadata_is_lost_is_neither_archived_nor_doubled(
    client: redis.Redis, services: Services, *, woken: bool
) -> None:
    say(client, "0", "1")
    if woken:
        sleep(services)
        restore_session(services, S)
    archived = object_names(services.archive)
    raw(client, "DEL", keys(services).metadata(S.encode()))
    say(client, "2")
    assert said(client) == ["0", "1", "2"]
    for attempt in range(1, services.settings.max_attempts + 1):
        with pytest.raises(SessionDamaged):
            restore_session(services, S)
        last = attempt == services.settings.max_attempts
        assert drain_due(services) == {Outcome.QUARANTINED if last else Outcome.FAILED: 1}
        end_lease(client, services)
    info = described(services)
    assert info.status is Status.QUARANTINED
    assert info.error
    assert "torpor doctor" in info.error
    with pytest.raises(SessionDamaged):
        restore_session(services, S)
    say(client, "3")
    assert said(client) == texts(read_transcript(services, S)) == ["0", "1", "2", "3"]
    assert object_names(services.archive) == archived
    assert archive_session(services, S).outcome is Outcome.QUARANTINED
