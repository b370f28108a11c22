"""Verify, then delete, although two things go wrong: an upload is altered or outdated, and its worker is gone."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.observed import watch
from support.overtaken import EXPIRY, OTHER, WORDS, check_woken, dies, say
from torpor.worker.archive import contents, names, ownership
from torpor.worker.archive.stores import NEVER, StoredObject
from torpor.worker.archive.stores import folder as folder_module
from torpor.worker.archive.stores.folder_description import description_path
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import erase, inventory, orders
from torpor.worker.erasure.inventory import Found
from torpor.worker.erasure.order import Order, Scope
from torpor.worker.erasure.purge import purge
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import AttemptResult, Outcome

pytestmark = pytest.mark.usefixtures("as_in_cloud_storage")

# An upload is altered on its way, and its worker dies


ALTERED: dict[str, dict[str, str | None]] = {
    "another owner": {"owner": "bob"},
    "no owner": {"owner": None},
    "another session": {"session": "r"},
    "another count before it": {"base": "7"},
    "nonsense": {"base": "many"},
    "another expiry": {"idle_ms": "5", "retention_ms": None},
    "another time": {"created": "2001-01-01T00:00:00.000+00:00"},
    "another checksum": {"sha256": "0" * 64},
    "an entry more": {"label": "x"},
    "no metadata": dict.fromkeys(["session", "owner", "base", "sha256", "created", "idle_ms", "check"]),
}


def alter(services: Services, stored: StoredObject, entries: dict[str, str | None], **fields: str) -> None:
    """Alter the metadata of an object behind Torpor's back, as if it had been altered on its way."""
    if isinstance(services.archive, folder_module.FolderStore):
        path = description_path(services.archive._root.path / stored.name)
        described = json.loads(path.read_text())
        described["metadata"] = _altered(described["metadata"], entries)
        path.write_text(json.dumps(described | fields))
        return
    store: Any = services.archive
    store._objects.patch(store._objects.describe(store._prefix + stored.name), {"metadata": entries, **fields})


def _altered(metadata: dict[str, str], entries: dict[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in (metadata | entries).items() if text is not None}


def objects(services: Services) -> tuple[StoredObject, StoredObject]:
    """The owner marker and the segment."""
    [segment] = contents.look(services.archive, "s").segments
    [(_, marker)] = contents.owner_markers(services.archive, "ann", "s")
    return marker, segment.stored


@pytest.mark.parametrize("entries", ALTERED.values(), ids=ALTERED.keys())
@pytest.mark.parametrize("which", ["marker", "segment"])
def test_an_altered_upload_whose_worker_died_is_amended_by_the_next_attempt(
    services: Services, which: str, entries: dict[str, str | None]
) -> None:
    say(services)
    dies(services)
    right = objects(services)
    for stored in right:
        if (stored in right[:1]) is (which == "marker"):
            alter(services, stored, entries)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert [{**each.metadata, "active": ""} for each in objects(services)] == [
        {**each.metadata, "active": ""} for each in right
    ]
    check_woken(services, WORDS)


@pytest.mark.parametrize("entries", ALTERED.values(), ids=ALTERED.keys())
def test_an_altered_upload_that_the_session_has_outgrown_keeps_it_not_from_waking(
    services: Services, entries: dict[str, str | None]
) -> None:
    say(services)
    dies(services)
    alter(services, objects(services)[1], entries)
    say(services, b'{"content":"more"}')
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert len(contents.look(services.archive, "s").segments) == 2
    check_woken(services, [*WORDS, b'{"content":"more"}'])


def test_a_damaged_upload_whose_worker_died_is_replaced_by_the_next_attempt(services: Services) -> None:
    say(services)
    dies(services)
    damage(services)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    check_woken(services, WORDS)


def test_a_damaged_upload_that_the_session_has_outgrown_keeps_it_not_from_waking(services: Services) -> None:
    say(services)
    dies(services)
    damage(services)
    more = b'{"content":"more"}'
    services.sessions.assign_owner("s", "ann")
    say(services, more)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    check_woken(services, [*WORDS, more])


def damage(services: Services) -> None:
    """Put an object in the segment's place that has half of its bytes and its description."""
    [segment] = [each.stored for each in contents.look(services.archive, "s").segments]
    with services.archive.open(segment) as body:
        half = body.read()[: segment.size // 2]
    services.archive.delete(segment)
    services.archive.put(segment.name, io.BytesIO(half), len(half), metadata=segment.metadata)


@pytest.mark.parametrize("entries", [ALTERED["another owner"], ALTERED["nonsense"]], ids=["owner", "nonsense"])
def test_altered_metadata_of_the_archived_part_keeps_a_session_in_redis(
    services: Services, entries: dict[str, str | None]
) -> None:
    say(services)
    watched, points = watch(services)
    points.at("before commit batch", lambda: say(services, b'{"content":"more"}'))
    assert archive_session(watched, "s").outcome is Outcome.KEPT
    _, segment = objects(services)
    alter(services, segment, entries)
    failed = archive_session(services, "s")
    assert failed.outcome is Outcome.FAILED
    assert segment.name in str(failed.error)
    assert services.sessions.messages("s", touch=False) == [*WORDS, b'{"content":"more"}']


# Every object that is written once


def _found(services: Services) -> Found:
    return Found(
        session="s", owner="ann", owners=["ann"], epoch=7, in_redis=True, live_messages=1, messages=1, objects=[]
    )


ORDER = Order.of(session="s", id="20260101-000000-0123abcd")
WRITERS: dict[str, tuple[str, Callable[[Services], object]]] = {
    "floor marker": (
        names.floor_name("s", 7),
        lambda services: erase.below_floor(services, "s", 7, [], kept=0),
    ),
    "order": (names.PURGES.order(ORDER.id), lambda services: orders.place(services, ORDER)),
    "inventory": (
        names.PURGES.batch(ORDER.id, 1),
        lambda services: inventory.write(services, ORDER.id, 1, [_found(services)]),
    ),
    "note of a removed inventory": (
        names.PURGES.batch_done(ORDER.id, 1),
        lambda services: inventory.note_removed(services, ORDER.id, 1),
    ),
    "note of all inventories": (
        names.PURGES.listed(ORDER.id),
        lambda services: inventory.complete(services, ORDER.id),
    ),
    "record of the deployment": (
        names.DEPLOYMENT,
        lambda services: ownership.take(services.archive, services.settings.namespace),
    ),
}


@pytest.mark.parametrize(("name", "write"), WRITERS.values(), ids=WRITERS.keys())
def test_whatever_is_written_again_gets_the_metadata_that_it_should_have(
    services: Services, name: str, write: Callable[[Services], object]
) -> None:
    write(services)
    [right] = services.archive.list(name)
    alter(services, right, {"session": "r", "sha256": None, "sessions": "9", "label": "x"})
    [altered] = services.archive.list(name)
    assert altered.metadata != right.metadata
    write(services)
    [again] = services.archive.list(name)
    assert (again.metadata, again.generation) == (right.metadata, right.generation)


@pytest.mark.parametrize("entries", ALTERED.values(), ids=ALTERED.keys())
def test_a_session_with_an_altered_upload_is_found_by_every_walk(
    services: Services, entries: dict[str, str | None]
) -> None:
    say(services)
    dies(services)
    for stored in objects(services):
        alter(services, stored, entries)
    services.archive.put(names.floor_name("s", 1), io.BytesIO(), 0, metadata={"session": "s"})
    assert set(catalog.owned(services, "ann")) == {"s"}
    assert set(catalog.everything(services, lambda *_: None)) == {"s"}
    services.sessions.client.flushall()
    assert list(catalog.asleep(services)) == ["s"]


# Somebody discards an upload while another attempt relies on it


def test_a_late_discarding_of_an_uncommitted_upload_deletes_nothing_that_an_attempt_relies_on(
    services: Services,
) -> None:
    say(services)
    dies(services)
    watched, points = watch(services)
    others: list[AttemptResult] = []

    def take_over() -> None:
        services.sessions.close("s")
        others.append(archive_session(services, "s"))

    points.at("before discard", take_over)
    order = Order.of(session="s", scope=Scope.LIVE)
    standing = purge(watched, order)
    assert standing.receipt is not None
    assert [each.outcome for each in others] == [Outcome.ARCHIVED]
    assert not points.pending
    check_woken(services, WORDS)


# Expiry or owner change between two attempts


def change_expiry(services: Services) -> None:
    services.sessions.update("s", idle=OTHER.idle, max_age=OTHER.max_age, retention=OTHER.retention)


@pytest.mark.parametrize("at", [Failpoint.ARCHIVE_MARKED, Failpoint.ARCHIVE_SENT, Failpoint.ARCHIVE_VERIFIED])
def test_an_expiry_that_changes_between_two_attempts_is_the_one_that_is_kept(services: Services, at: Failpoint) -> None:
    say(services)
    dies(services, at)
    change_expiry(services)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    marker, segment = objects(services)
    assert OTHER.retention
    ends = datetime.now(UTC) + OTHER.retention
    for stored, spare in ((segment, timedelta()), (marker, timedelta(days=2))):
        assert stored.custom_time
        assert abs(stored.custom_time - ends - spare) < timedelta(minutes=5)
    check_woken(services, WORDS, OTHER)


def test_a_retention_that_is_given_up_between_two_attempts_no_longer_ends(services: Services) -> None:
    say(services)
    dies(services)
    services.sessions.update("s", idle=EXPIRY.idle, max_age=EXPIRY.max_age, retention=None)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert [each.custom_time for each in objects(services)] == [NEVER, NEVER]
    check_woken(services, WORDS, dataclasses.replace(EXPIRY, retention=None))


def test_an_owner_who_is_named_between_two_attempts_is_the_owner(services: Services) -> None:
    say(services, owner=None)
    dies(services)
    services.sessions.assign_owner("s", "ann")
    say(services, b'{"content":"more"}')
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    check_woken(services, [*WORDS, b'{"content":"more"}'])


@pytest.mark.parametrize("point", ["before put segment", "after put segment"])
def test_an_attempt_that_is_overtaken_changes_nothing_that_the_newer_one_has_written(
    services: Services, point: str
) -> None:
    say(services)
    watched, points = watch(services)
    others: list[AttemptResult] = []

    def overtake() -> None:
        services.sessions.close("s")
        change_expiry(services)
        services.sessions.close("s")
        others.append(archive_session(services, "s"))

    points.at(point, overtake)
    overtaken = archive_session(watched, "s")
    assert ([each.outcome for each in others], overtaken.outcome) == ([Outcome.ARCHIVED], Outcome.SUPERSEDED)
    check_woken(services, WORDS, OTHER)
