"""The symptoms of docs/operations.md, each caused in a real deployment, as the text in its first backticks names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from support.adopting import Killed, kill_when, leftovers
from support.backups import Backup
from support.cli_sessions import chat, say, sleep
from support.command import Torpor
from support.foreign import Foreign
from support.keyspace import raw
from support.objects import put
from support.observed import ObservedStore
from support.storage_proxy import StorageProxy, answered
from torpor.worker.archive import names
from torpor.worker.bulk import adopting
from torpor.worker.bulk.adopting import Arguments
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.jobs import look
from torpor.worker.jobs.job import Job
from torpor.worker.ops import doctor
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain

S, OWNER, PURGE = "user-42", "ann", "the-purge"


@dataclass(frozen=True)
class World:
    """A deployment, its way to the bucket, and the command."""

    services: Services
    proxy: StorageProxy
    torpor: Torpor
    patch: pytest.MonkeyPatch

    @property
    def client(self) -> Any:
        return self.services.sessions.client

    def key(self, kind: str) -> bytes:
        [found] = raw(self.client, "KEYS", f"*:{kind}:{S}")
        return bytes(found)

    def forget_what_follows(self, act: Callable[[], object]) -> None:
        """A failover to a replica that has none of it."""
        replica = Backup.of(self.client)
        act()
        replica.restore(self.client)


def nothing(world: World) -> None:
    sleep(world.client, world.services, S)
    say(world.client, "awake")


def archive_refuses(world: World) -> None:
    _outage(world, 403)


def archive_away(world: World) -> None:
    _outage(world, 503)


def _outage(world: World, status: int) -> None:
    chat(world.client, S).add_messages([HumanMessage("hello")])
    chat(world.client, S).close()
    world.proxy.fail(answered(status))
    assert drain(world.services, [*world.services.sessions.due_counts()]) == {"postponed": 1}


def due(world: World) -> None:
    say(world.client, S)
    chat(world.client, S).close()


def quarantined(world: World) -> None:
    say(world.client, S)
    raw(world.client, "HDEL", world.key("s"), "epoch")
    for _ in range(world.services.settings.max_attempts):
        archive_session(world.services, S)
    assert [*world.services.sessions.sessions(quarantined=True)] == [S]


def purge_ordered(world: World) -> None:
    sleep(world.client, world.services, S)
    long_ago = datetime.now(UTC) - timedelta(minutes=6)
    orders.place(world.services, Order.of(session=S, id=PURGE).model_copy(update={"requested_at": long_ago}))


def purge_blocked(world: World) -> None:
    sleep(world.client, world.services, S)
    legal_hold.hold_owner(world.services, OWNER, "case 12")
    orders.place(world.services, Order.of(session=S, id=PURGE))
    assert world.torpor("purge", "--resume", PURGE).code == 1


def job_ordered(world: World) -> None:
    ours = world.services.sessions.identity().deployment
    assert ours
    _order_job(world, ours)


def job_refused(world: World) -> None:
    _order_job(world, "another")


def _order_job(world: World, deployment: str) -> None:
    given = Arguments(format="memorystore", match="*")
    job = Job.of(adopting.NAME, given, deployment=deployment).model_copy(update={"id": PURGE})
    look.place(world.services, job)


def without_a_session(world: World) -> None:
    say(world.client, S)
    world.client.delete(world.key("m"), world.key("s"))


def without_metadata(world: World) -> None:
    chat(world.client, S).add_messages([HumanMessage("hello", id="1")])
    world.client.delete(world.key("s"))


def without_metadata_by_chance(world: World) -> None:
    sleep(world.client, world.services, S)
    say(world.client, S)
    world.client.delete(world.key("s"))


def not_torpors(world: World) -> None:
    say(world.client, S)
    name = world.key("s")
    world.client.delete(name)
    world.client.set(name, "not ours")


def delete_it(world: World) -> None:
    world.client.delete(world.key("s"))


def unreadable_message(world: World) -> None:
    world.services.sessions.append(S, [b"no message"])


def damaged_order(world: World) -> None:
    put(world.services.archive, names.PURGES.order(PURGE), b"no order")


def behind(world: World) -> None:
    say(world.client, S)
    world.forget_what_follows(partial(sleep, world.client, world.services, S, "more"))


def hold_lost(world: World) -> None:
    sleep(world.client, world.services, S)
    world.forget_what_follows(partial(legal_hold.hold_owner, world.services, OWNER, "case 12"))


def miscounted(world: World) -> None:
    """The deployment is older than the counts of sessions by kind."""
    say(world.client, S)
    raw(world.client, "HDEL", f"{world.services.settings.namespace}:config", "kinds")


def foreign_samples(world: World) -> None:
    raw(world.client, "SET", "{torpor:events}:samples", "another program's")


def foreign_note(world: World) -> None:
    world.services.sessions.note_seen("worker:celery@a", {"worker:celery@a": "not JSON"}, timedelta(days=1))


def unadopted(world: World) -> None:
    Foreign(world.client, session_id=S).add("hello")

    class Dying:
        def make(self, _: Any, act: Callable[[], Any]) -> Any:
            made = act()
            if leftovers(world.client):
                kill_when(world.client, taken=True)
            return made

    with pytest.raises(Killed):
        ObservedStore(world.client, Dying()).adopt(S, Foreign(world.client).layout)
    world.patch.setattr(doctor, "_ADOPTING", timedelta(seconds=-1))


def redis_lost(world: World) -> None:
    sleep(world.client, world.services, S)
    world.client.flushall()


def two_owners(world: World) -> None:
    sleep(world.client, world.services, S)
    say(world.client, S, owner="bob")


def without_owner(world: World) -> None:
    say(world.client, S, owner=None)
