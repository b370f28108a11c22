"""The life of a session: facts, holds, what has happened, and objects; and `torpor sessions --id`."""

from __future__ import annotations

import pytest
import redis

from support.cli_sessions import say, sleep
from support.command import Torpor
from torpor.worker.access.happenings import Step
from torpor.worker.access.life import Life, life
from torpor.worker.deployment.services import Services
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow


def steps(seen: Life) -> list[tuple[Step, int | None]]:
    return [(each.step, each.messages) for each in seen.happenings]


def test_the_life_of_a_session_is_told_by_metadata_objects_and_events(client: redis.Redis, services: Services) -> None:
    sleep(client, services, "s", "one", "two")
    restore_session(services, "s")
    say(client, "s", "three")
    archive_session(services, "s")
    seen = life(services, "s")
    assert (seen.state, seen.kind, seen.owner, seen.messages, seen.archived) == ("asleep", "chat", "ann", 0, 3)
    assert [each.at for each in seen.happenings] == sorted(each.at for each in seen.happenings)
    told = steps(seen)
    assert told[0] == (Step.CREATED, None)
    assert [each for each in told if each[0] is Step.SEGMENT] == [(Step.SEGMENT, 2), (Step.SEGMENT, 1)]
    # The clock of a store and that of Redis need not agree to the second.
    assert [each for each in told if each[0] in (Step.ASLEEP, Step.WOKEN)] == [
        (Step.ASLEEP, 2),
        (Step.WOKEN, 2),
        (Step.ASLEEP, 3),
    ]
    assert [(each.what, each.messages) for each in seen.objects] == [
        ("owner marker", None),
        ("owner marker", None),
        ("segment", 2),
        ("segment", 1),
    ]
    assert seen.archived_bytes == sum(each.size for each in seen.objects)


def test_holds_of_the_session_and_of_its_owner_are_told_awake_and_asleep(
    client: redis.Redis, services: Services
) -> None:
    sleep(client, services, "asleep")
    say(client, "awake")
    for name in ("asleep", "awake"):
        assert legal_hold.hold_session(services, name, "case 12/2026", "counsel@example.com")
    assert legal_hold.hold_owner(services, "ann", "case 13/2026")
    for name in ("asleep", "awake"):
        seen = life(services, name)
        assert [(hold.reason, hold.by) for hold in seen.holds] == [
            ("case 12/2026", "counsel@example.com"),
            ("case 13/2026", ""),
        ]
        assert [each.detail for each in seen.happenings if each.step is Step.HELD] == [
            "by its own hold: case 12/2026",
            "by the hold of owner ann: case 13/2026",
        ]


def test_the_command_tells_the_same(client: redis.Redis, services: Services, torpor: Torpor) -> None:
    sleep(client, services, "s", "one", "two")
    legal_hold.hold_session(services, "s", "case 12/2026", "counsel")
    told = torpor("sessions", "--id", "s", "--json").json
    assert (told["session_id"], told["owner"], told["archived"]) == ("s", "ann", 2)
    assert told["happenings"][0]["step"] == "created"
    assert told["holds"][0]["reason"] == "case 12/2026"
    shown = torpor("sessions", "--id", "s")
    assert shown.code == 0
    assert all(word in shown.said for word in ("case 12/2026", "by counsel", "fell asleep", "segment written"))
    assert torpor("sessions", "--id", "s", "--owner", "ann").code == 2


def test_the_command_knows_no_session_that_nobody_has(torpor: Torpor) -> None:
    done = torpor("sessions", "--id", "nobody")
    assert (done.code, "neither in Redis nor in the archive" in done.err) == (3, True)
