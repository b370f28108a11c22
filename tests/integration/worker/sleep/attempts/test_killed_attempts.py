"""Workers that are killed while they archive or erase: the next one finishes, and nothing comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from support.archiving import (
    POINTS,
    STATES,
    Chat,
    clear_and_erase,
    due_chats,
    kept_before,
    new,
    slept_before,
    transcript,
    woken,
)
from support.observed import Points, watch
from support.waiting import wait_until
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ArchiveRefused
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.every_server]


class Killed(BaseException):
    """Ends the process here."""


@pytest.mark.parametrize("point", ["after snapshot batch", "before commit batch", "after commit batch"])
def test_a_worker_that_is_killed_amid_a_batch_loses_nothing(services: Services, point: str) -> None:
    chats = due_chats(services, 4)
    watched, points = watch(services, lease_seconds=0.3)

    def die() -> None:
        raise Killed

    points.at(point, die)
    with pytest.raises(Killed):
        drain(watched, list(range(4)))
    in_redis = [chat for chat in chats if services.sessions.info(chat.session_id)]
    wait_until(lambda: sum(services.sessions.due_counts().values()) == len(in_redis), what="the leases end")
    for chat in chats:
        chat.check()
        [segment] = contents.look(services.archive, chat.session_id).segments
        assert segment.name.stop == len(chat.acknowledged)


# Crashes


def killed(points: Points, point: str, watched: Services) -> None:
    def kill() -> None:
        raise Killed

    points.at(point, kill)
    with pytest.raises(Killed):
        archive_session(watched, "s")


@pytest.mark.parametrize(
    ("point", "state"),
    [
        *((point, state) for point in POINTS for state in STATES),
        *((point, state) for point in ("before put marker", "after put marker") for state in (new, slept_before)),
        *(("before list", state) for state in (woken, kept_before)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_a_killed_worker_began_is_finished_by_the_next(
    client: redis.Redis, services: Services, point: str, state: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    state(chat)
    watched, points = watch(services, lease_seconds=0.1)
    killed(points, point, watched)
    assert transcript(services, "s") == chat.acknowledged

    if point != "after commit batch":
        due = wait_until(services.sessions.due_counts, what="the lease ends")
        assert drain(services, list(due)) == {Outcome.ARCHIVED: 1}
    assert services.sessions.info("s") is None
    sizes = [segment.name.stop - segment.name.start for segment in contents.look(services.archive, "s").segments]
    assert sum(sizes) == len(chat.acknowledged)
    chat.check()


@pytest.mark.parametrize("point", ["before put marker", "after put marker", "before delete", "after delete"])
def test_an_erasure_that_was_killed_is_finished_by_the_next(services: Services, point: str) -> None:
    chat = Chat(services)
    for _ in range(3):
        chat.say(2)
        archive_session(services, "s")
    chat.clear()
    chat.say(2)
    watched, points = watch(services, lease_seconds=0.1)
    killed(points, point, watched)
    due = wait_until(services.sessions.due_counts, what="the lease ends")
    assert drain(services, list(due)) == {Outcome.ERASED: 1}
    chat.check_erased()
    chat.check()


# What an erasure at the same time can leave behind; see docs/design.md, "Clear"


@pytest.mark.parametrize("erase", [clear_and_erase, Chat.purge])
def test_an_upload_that_was_killed_after_its_session_was_erased_never_comes_back(
    services: Services, erase: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.1)
    points.at("before put segment", lambda: erase(chat))
    killed(points, "after put segment", watched)
    chat.sleep()
    assert chat.wake() == []
    chat.sleep()
    chat.say(2)
    chat.sleep()
    assert transcript(services, "s") == chat.acknowledged
    assert chat.wake() == chat.acknowledged


@pytest.mark.parametrize("erase", [Chat.clear, Chat.purge])
def test_an_upload_that_was_killed_after_its_session_was_erased_is_erased_too(
    services: Services, erase: Callable[[Chat], None]
) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.5)
    points.at("before put segment", lambda: erase(chat))
    killed(points, "after put segment", watched)
    wait_until(lambda: erased_for_good(services), what="the erasure has looked again after the lease")
    chat.check_erased()


def test_a_purge_during_an_upload_leaves_nothing_that_names_the_owner(services: Services) -> None:
    chat = Chat(services)
    chat.say(3)
    watched, points = watch(services, lease_seconds=0.5)
    points.at("before put marker", chat.purge)
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    wait_until(lambda: erased_for_good(services), what="the erasure has looked again after the lease")
    assert [stored.name for stored in services.archive.list("v1/owners/")] == []


def test_a_marker_that_is_restored_after_another_worker_has_erased_its_segment_is_taken_back(
    services: Services,
) -> None:
    chat = Chat(services)
    chat.say(3)
    archive_session(services, "s")
    chat.clear()
    watched, points = watch(services)

    def refuse() -> None:
        points.at("before put marker", erase_by_another)
        raise ArchiveRefused("forbidden for a moment")

    def erase_by_another() -> None:
        services.sessions.close("s")
        assert archive_session(services, "s").outcome in (Outcome.MISSING, Outcome.ERASED, Outcome.ARCHIVED)

    points.at("after delete", lambda: points.at("before delete", refuse))  # the marker comes first
    assert archive_session(watched, "s").outcome is Outcome.SUPERSEDED
    assert not points.pending
    assert [stored.name for stored in services.archive.list("v1/owners/", generations=True)] == []


def erased_for_good(services: Services) -> bool:
    drain(services, list(services.sessions.due_counts()))
    return services.sessions.info("s") is None
