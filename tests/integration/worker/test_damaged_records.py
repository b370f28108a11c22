"""One damaged record of each kind: every list shows the others and names the damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest

from support.command import Torpor
from support.consoles import OFFICER, Console, served
from support.damaged import break_hold, of_redis
from support.foreign import LAYOUTS
from support.jobs import order, theirs
from support.keyspace import raw
from support.objects import put
from support.purging import B, say, sleep
from torpor.history.adoption import Adoption
from torpor.history.keys import archive_health_key, events_key, measures_key, purge_failure_key, seen_key
from torpor.history.protocol import ArchiveNote, HoldKind, Lease
from torpor.worker import measures
from torpor.worker.archive import names
from torpor.worker.audit import trail
from torpor.worker.audit.act import Act
from torpor.worker.audit.entry import Subject
from torpor.worker.audit.trail import Who
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.events import Event, EventKind, record_events, record_measures
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.jobs import run
from torpor.worker.jobs.job import JOBS

pytestmark = pytest.mark.slow

SOUND, DAMAGED = "sound-one", "damaged-one"


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.fixture
def console(services: Services) -> Iterator[Console]:
    with served(services) as running:
        yield running


def hold_of_a_session(services: Services) -> None:
    for session_id in (SOUND, DAMAGED):
        sleep(services, session_id)
        services.sessions.hold(session_id, "case 7", owner="ann")
    break_hold(services, HoldKind.SESSION, DAMAGED)


def hold_of_an_owner(services: Services) -> None:
    for owner in (SOUND, DAMAGED):
        services.sessions.hold_owner(owner, "case 7")
    break_hold(services, HoldKind.OWNER, DAMAGED)


def a_session(services: Services) -> None:
    for session_id in (SOUND, DAMAGED):
        say(services, session_id)
    break_metadata(services)


def break_metadata(services: Services) -> None:
    keys = services.sessions.deployment.keyspace.of(DAMAGED.encode())
    of_redis(services, keys.metadata(DAMAGED.encode()), "epoch", "yesterday")


def a_session_in_quarantine(services: Services) -> None:
    for session_id in (SOUND, DAMAGED):
        say(services, session_id)
        lease = services.sessions.claim_one(session_id, services.settings.lease)
        assert isinstance(lease, Lease)
        assert services.sessions.quarantine(lease, "it is broken")
    break_metadata(services)


def a_side_of_a_conflict(services: Services) -> None:
    for session_id in (SOUND, DAMAGED):
        sleep(services, session_id)
        services.sessions.append(session_id, [B], owner="mallory")
    break_metadata(services)


def an_order_of_a_purge(services: Services) -> None:
    say(services, "s")
    orders.place(services, Order.of(session="s", id=SOUND))
    put(services.archive, names.PURGES.order(DAMAGED), b"{}")


def why_a_purge_failed(services: Services) -> None:
    say(services, "s")
    for purge_id in (SOUND, DAMAGED):
        orders.place(services, Order.of(session="s", id=purge_id))
    raw(services.sessions.client, "RPUSH", purge_failure_key("torpor", DAMAGED), "another program's")


def a_receipt(services: Services) -> None:
    say(services, "s")
    purge(services, Order.of(session="s", id=SOUND))
    put(services.archive, names.PURGES.result(DAMAGED), b"{}")


def an_order_of_a_job(services: Services) -> None:
    theirs(services.sessions.client, 1)
    put(services.archive, names.JOBS.order(DAMAGED), b"{}")
    job = JOBS.read(services.archive, order(services))
    JOBS.finish(services.archive, job.id)
    JOBS.write(services.archive, job.model_copy(update={"id": SOUND}))


def a_result_of_a_job(services: Services) -> None:
    an_order_of_a_job(services)
    JOBS.finish(services.archive, DAMAGED)
    run.cancel(services, WORKS, SOUND)
    put(services.archive, names.JOBS.result(DAMAGED), b"{}")


def an_entry_of_the_audit_trail(services: Services) -> None:
    with trail.recorded(services, Act.SHOW, Subject(sessions=[SOUND]), Who("ann"), pytest.fail):
        pass
    put(services.archive, names.audit_name(f"20260101T000000-{DAMAGED}", names.AUDIT_BEGUN), b"{}")


def an_adoption(services: Services) -> None:
    """Both in one shard, which is asked as a whole."""
    key = services.sessions.deployment.keyspace.of(DAMAGED.encode()).adoptions
    sound = b"1:" + Adoption.new(SOUND, LAYOUTS["memorystore"], "ann").state
    raw(services.sessions.client, "HSET", key, SOUND, sound, DAMAGED, "yesterday:[]")


def an_event(services: Services) -> None:
    record_events(services, [Event(EventKind.ARCHIVED, SOUND, messages=2)])
    add = ("XADD", events_key("torpor"), "*", "kind", "session.archived", "session", DAMAGED, "messages")
    raw(services.sessions.client, *add, b"\xff many")


def a_note_of_a_worker(services: Services) -> None:
    for worker in (SOUND, DAMAGED):
        services.sessions.note_seen(f"worker:{worker}", {f"worker:{worker}": '{"host": "h"}'}, timedelta(days=1))
    of_redis(services, seen_key("torpor"), f"seen:worker:{DAMAGED}", "yesterday")


def a_note_of_the_archive(services: Services) -> None:
    for worker in (SOUND, DAMAGED):
        services.sessions.add_events([], keep=10, note=ArchiveNote(worker))
    of_redis(services, archive_health_key("torpor"), f"worked:{DAMAGED}", "yesterday")
    services.sessions.add_events([], keep=10, note=ArchiveNote(SOUND, "it is away"))


def a_measure(services: Services) -> None:
    services.sessions.note_seen(f"worker:{SOUND}", {f"worker:{SOUND}": '{"host": "h"}'}, timedelta(days=1))
    raw(services.sessions.client, "HSET", measures_key("torpor"), DAMAGED, "many")


@dataclass(frozen=True)
class Looks:
    """What makes the records, and the commands and the pages that list them."""

    make: Callable[[Services], None]
    commands: tuple[str, ...]
    pages: tuple[str, ...] = ()


STATUS = ("status", "top --once")
KINDS = [
    Looks(hold_of_a_session, ("holds", "sessions --owner ann"), ("/holds", "/person?owner=ann", "/sessions")),
    Looks(hold_of_an_owner, ("holds",), ("/holds",)),
    Looks(a_session, ("sessions", "sessions --owner ann"), ("/sessions", "/person?owner=ann")),
    Looks(a_session_in_quarantine, ("quarantine",), ("/quarantine",)),
    Looks(a_side_of_a_conflict, ("sessions --conflicts",)),
    Looks(an_order_of_a_purge, ("purge-status",), ("/purges",)),
    Looks(why_a_purge_failed, ("purge-status",), ("/purges",)),
    Looks(a_receipt, ("receipts",), ("/purges",)),
    Looks(an_order_of_a_job, ("jobs",), ("/jobs",)),
    Looks(a_result_of_a_job, (), ("/jobs",)),
    Looks(an_entry_of_the_audit_trail, ("audit",), ("/audit?since=9999d",)),
    Looks(an_adoption, ("doctor",)),
    Looks(an_event, ("events",)),
    Looks(a_note_of_a_worker, STATUS, ("/",)),
    Looks(a_note_of_the_archive, ("status",)),
    Looks(a_measure, STATUS, ("/",)),
]


@pytest.mark.parametrize("looks", KINDS, ids=lambda looks: looks.make.__name__)
def test_a_list_shows_the_others_and_names_the_damaged_one(
    services: Services, torpor: Torpor, console: Console, looks: Looks
) -> None:
    looks.make(services)
    for command in looks.commands:
        for form in ([], ["--json"]):
            done = torpor(*command.split(), *form)
            assert done.code == (1 if command == "doctor" else 0), (command, form, done)
            assert SOUND in done.out, (command, form, done)
            assert DAMAGED in done.said, (command, form, done)
    visitor = console.visitor(OFFICER)
    for page in looks.pages:
        shown = unescape(visitor.get(page).text)
        assert SOUND in shown, (page, shown)
        assert DAMAGED in shown, (page, shown)


@pytest.mark.parametrize("field", ["unavailable_since", f"failed:{SOUND}"])
def test_an_archive_that_fails_since_nobody_knows_when_is_unavailable(
    services: Services, torpor: Torpor, console: Console, field: str
) -> None:
    services.sessions.add_events([], keep=10, note=ArchiveNote(SOUND, "it is away"))
    of_redis(services, archive_health_key("torpor"), field, "yesterday")
    for command in STATUS:
        assert "unavailable" in torpor(*command.split()).said
    assert "unavailable" in console.visitor(OFFICER).get("/").text
    services.sessions.add_events([], keep=10, note=ArchiveNote("other"))
    # A failure that was at no moment counts no more. Its worker notes the next one.
    assert bool(services.sessions.archive_health().unavailable_since) == (field == "unavailable_since")
    services.sessions.add_events([], keep=10, note=ArchiveNote(SOUND))
    assert services.sessions.archive_health().unavailable_since is None


def test_a_measure_that_is_no_number_does_not_stop_the_others(services: Services) -> None:
    measures.take()
    raw(services.sessions.client, "HSET", measures_key("torpor"), "requests:put:ok", "many")
    measures.count("requests:put:ok")
    measures.count("requests:list:ok")
    record_measures(services)
    found = services.sessions.measures()
    assert (found.measures, found.unreadable) == ({"requests:list:ok": 1}, ["requests:put:ok"])
