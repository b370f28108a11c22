"""Who may do what with whose session, in every state: the table of docs/security.md is what this test sees.

`make tables` writes the table that it sees into the page.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from langchain_core.messages import HumanMessage

from support.foreign import Foreign
from support.keyspace import dump
from support.paths import ROOT
from support.savers import checkpoint, config
from support.servers import RedisServer
from support.watched_clients import WatchedRedis
from torpor import MemorystoreChatMessageHistory, MemorystoreSaver, MemorystoreSession
from torpor.history.adapters.items import encode_item
from torpor.history.adapters.messages import encode_message
from torpor.history.protocol import (
    OwnerMismatch,
    OwnerRequired,
    PurgeTarget,
    RestoreTicket,
    SessionOperations,
    SessionStore,
    TorporError,
    run_sync,
)
from torpor.history.records.record import Checkpoint, Name, Typed, to_element
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import Restorer
from torpor.worker.wake.session_archive import SessionArchive

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "security.md"
SAID = "where is my order"
MESSAGES = [encode_message(HumanMessage(SAID)), encode_message(HumanMessage("hello"))]
ITEMS = [encode_item({"role": "user", "content": text}) for text in (SAID, "hello")]
CHECKPOINT = checkpoint({}, {})
RECORDS = [
    to_element(Checkpoint(Name("", CHECKPOINT["id"]), None, Typed("json", json.dumps([CHECKPOINT, {}]).encode())), 0)
]
MINUTE = timedelta(minutes=1)


class EndsARestore(SessionArchive):
    """The archive of a reader, who finds that another restore is running: it ends when the reader begins to wait."""

    ticket: RestoreTicket | None = None
    restorer: Restorer | None = None

    async def wake(self, sessions: SessionOperations, session_id: str, owner: Any, **options: Any) -> bool:
        if self.ticket is not None and self.restorer is not None:
            ticket, self.ticket = self.ticket, None
            run_sync(self.restorer.carry_out(ticket))
        return await super().wake(sessions, session_id, owner, **options)


@dataclass
class World:
    """A session of ann, or of nobody, and the archive as an application has it."""

    services: Services
    session: str
    owner: str | None
    elements: list[bytes]
    archive: EndsARestore | None = None

    @property
    def store(self) -> SessionStore:
        return self.services.sessions

    def at_hand(self) -> None:
        self.archive = EndsARestore(self.services.archive.url)

    def write(self) -> None:
        self.store.append(self.session, self.elements, owner=self.owner)

    def sleep(self) -> None:
        self.write()
        assert archive_session(self.services, self.session).outcome is Outcome.ARCHIVED


def live(world: World) -> None:
    world.at_hand()
    world.write()


def asleep(world: World) -> None:
    world.at_hand()
    world.sleep()


def asleep_without_the_archive(world: World) -> None:
    world.sleep()


def waking(world: World) -> None:
    asleep(world)
    ticket = world.store.begin_restore(world.session, MINUTE)
    assert isinstance(ticket, RestoreTicket)
    assert world.archive
    world.archive.ticket = ticket
    world.archive.restorer = Restorer(world.store.operations, world.services.archive, None, MINUTE)


def held(world: World) -> None:
    live(world)
    world.store.hold(world.session, "a dispute")


def tombstone(world: World) -> None:
    live(world)
    [done] = world.store.purge([PurgeTarget(world.session, world.owner)], "p", tombstone=MINUTE, idle=None)
    assert not isinstance(done, TorporError)


STATES: dict[str, Callable[[World], None]] = {
    "live": live,
    "asleep": asleep,
    "asleep, no archive": asleep_without_the_archive,
    "waking": waking,
    "held": held,
    "tombstone": tombstone,
}
# The session's owner, and the owner that the caller names.
CALLERS = {"right": ("ann", "ann"), "other": ("ann", "mallory"), "none": ("ann", None), "absent": (None, "ann")}

CHAT: dict[str, Callable[[MemorystoreChatMessageHistory], Any]] = {
    "messages": lambda chat: chat.messages,
    "pages": lambda chat: list(chat.pages(1)),
    "last": lambda chat: chat.last(1),
    "len": len,
    "add_messages": lambda chat: chat.add_messages([HumanMessage("more")]),
    "clear": lambda chat: chat.clear(),
    "info": lambda chat: chat.info(),
    "set_expiry": lambda chat: chat.set_expiry(ttl=60),
    "close": lambda chat: chat.close(),
    "hold": lambda chat: chat.hold("mine"),
    "release_hold": lambda chat: chat.release_hold(),
}
AGENTS: dict[str, Callable[[MemorystoreSession], Any]] = {
    "get_items": lambda session: session.get_items(),
    "add_items": lambda session: session.add_items([{"role": "user", "content": "more"}]),
    "pop_item": lambda session: session.pop_item(),
    "clear_session": lambda session: session.clear_session(),
}
# What a history of LangChain does that adopts; the Agents SDK's session adopts nothing, but its id may be named.
ADOPTION: dict[str, Callable[[MemorystoreChatMessageHistory], Any]] = {"adopt": len, "adopt (items)": len}
THREADS: dict[str, Callable[[MemorystoreSaver, Any], Any]] = {
    "get_tuple": lambda saver, named: saver.get_tuple(named),
    "list": lambda saver, named: list(saver.list(named)),
    "put": lambda saver, named: saver.put(named, checkpoint({}, {}), {}, {}),
    "put_writes": lambda saver, named: saver.put_writes(named, [("messages", "more")], "task"),
    "prune": lambda saver, named: saver.prune([named["configurable"]["thread_id"]], strategy="delete"),
    "delete_thread": lambda saver, named: saver.delete_thread(named["configurable"]["thread_id"]),
}
OPERATIONS = (*CHAT, "adopt", *AGENTS, "adopt (items)", *THREADS)
QUIET = {
    "add_messages", "clear", "set_expiry", "hold", "add_items", "clear_session", "put_writes", "prune", "delete_thread",
}  # fmt: skip


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


def everything(world: World) -> tuple[object, object]:
    """All that Redis and the archive have: equal before and after means that nothing was changed."""
    listed = [(each.name, dict(each.metadata), each.custom_time) for each in world.services.archive.list("v1/")]
    return dump(world.store.client), listed


def cell(world: World, operation: str, act: Callable[[], Any]) -> str:
    """What came of an operation: "done", "nothing" for an empty answer, or its error."""
    before = everything(world)
    waits = world.archive is not None and world.archive.ticket is not None
    try:
        answer = act()
    except OwnerMismatch as refused:
        assert SAID not in str(refused)
        assert waits or everything(world) == before, f"{operation} was refused, and has changed something"
        return type(refused).__name__
    except TorporError as error:
        return type(error).__name__
    return "done" if operation in QUIET or answer else "nothing"


def acted(world: World, caller: str | None, operation: str, server: RedisServer) -> str:
    options: dict[str, Any] = {"owner": caller, "archive": world.archive}
    if operation in THREADS:
        saver = MemorystoreSaver(world.store.client, **options)
        return cell(world, operation, lambda: THREADS[operation](saver, config(world.session, "", CHECKPOINT["id"])))
    if operation in ADOPTION:
        foreign = Foreign(world.store.client, session_id=world.session)
        foreign.add("from another library")
        chat = MemorystoreChatMessageHistory(world.store.client, world.session, adopt="memorystore", **options)
        done = cell(world, operation, lambda: ADOPTION[operation](chat))
        assert (done == "done") == (not foreign.elements), f"{operation} was {done}"
        return done
    if operation in CHAT:
        chat = MemorystoreChatMessageHistory(world.store.client, world.session, **options)
        return cell(world, operation, lambda: CHAT[operation](chat))

    async def connected() -> Any:
        async with redis.asyncio.Redis(port=server.port, username=server.user, password=server.password) as client:
            return await AGENTS[operation](MemorystoreSession(client, world.session, **options))

    return cell(world, operation, lambda: asyncio.run(connected()))


def elements_of(operation: str) -> list[bytes]:
    if operation in THREADS:
        return RECORDS
    return MESSAGES if operation in CHAT or operation == "adopt" else ITEMS


def table(services: Services, server: RedisServer, state: str) -> str:
    """The table of a state: a row for each operation, a column for each caller."""
    lines = [f"| {state} | {' | '.join(CALLERS)} |", "| --- " * (1 + len(CALLERS)) + "|"]
    for operation in OPERATIONS:
        cells = []
        for name, (owner, caller) in CALLERS.items():
            session = f"{state}/{operation}/{name}"
            world = World(services, session, owner, elements_of(operation))
            STATES[state](world)
            cells.append(acted(world, caller, operation, server))
        lines.append(f"| `{operation}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@pytest.mark.single_node(reason="the agents' client is of a single node")
@pytest.mark.parametrize("state", STATES)
def test_the_page_shows_what_each_operation_does_for_each_caller(
    services: Services, redis_server: RedisServer, state: str, request: pytest.FixtureRequest
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    begin = f"<!-- table: {state} -->\n"
    before, _, rest = page.partition(begin)
    shown, _, after = rest.partition("<!-- end -->")
    seen = table(services, redis_server, state)
    if request.config.getoption("--write-tables"):
        PAGE.write_text(f"{before}{begin}{seen}<!-- end -->{after}", encoding="utf-8")
    else:
        assert shown == seen


def test_a_deployment_that_requires_owners_refuses_who_names_none_before_anything_is_sent(
    services: Services, redis_server: RedisServer, watched: WatchedRedis
) -> None:
    services.sessions.configure(idle=MINUTE, max_age=None, require_owner=True)
    chat = MemorystoreChatMessageHistory(watched, "s")
    with pytest.raises(OwnerRequired):
        _ = chat.messages
    watched.commands.clear()
    for operation, act in CHAT.items():
        with pytest.raises(OwnerRequired):
            act(chat)
        assert watched.commands == [], operation
    anns = MemorystoreChatMessageHistory(watched, "s", owner="ann")
    anns.add_messages([HumanMessage(SAID)])
    assert len(anns.messages) == 1
    services.sessions.configure(idle=MINUTE, max_age=None)
    with redis_server.client() as restarted:
        MemorystoreChatMessageHistory(restarted, "of nobody").add_messages([HumanMessage(SAID)])
