"""Each single command of an operation, lost in turn: nothing is lost, nothing is doubled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.faulty_redis import (
    NO_RETRY,
    SHARDS,
    Chat,
    clear,
    prepare_asleep,
    prepare_spoken_to,
    prepare_woken,
    services_at,
    transcript,
)
from support.redis_proxy import Fault, Plan, Proxy, first, no_fault, nth
from support.sessions import purge_session
from torpor.history.conversation import Conversation
from torpor.history.protocol import (
    RedisUnavailable,
    SessionNotFound,
    SessionStore,
    TorporError,
    run_sync,
)
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.wake.restore import restore_session
from torpor.worker.wake.session_archive import SessionArchive

pytestmark = pytest.mark.single_node(reason="these are the faults of one node")


def prepare_cleared(chat: Chat) -> None:
    prepare_asleep(chat)
    chat.services.sessions.clear(chat.session_id)
    chat.acknowledged.clear()
    chat.say(2)


def close_and_drain(services: Services, chat: Chat) -> None:
    services.sessions.close(chat.session_id)
    drain(services, SHARDS)


def pop(services: Services, chat: Chat) -> None:
    """Take messages back until twelve are left; a second call does the rest."""
    del chat.acknowledged[12:]
    conversation = Conversation(
        services.sessions.client,
        chat.session_id,
        owner="ann",
        archive=SessionArchive(services.archive.url),
        shards=len(SHARDS),
    )
    while len(transcript(chat.services, chat.session_id)) > len(chat.acknowledged):
        run_sync(conversation.pop(lambda page: page.messages))


def purge(services: Services, chat: Chat) -> None:
    chat.acknowledged.clear()
    purge_session(services, chat.session_id)


@dataclass(frozen=True)
class Way:
    name: str
    prepare: Callable[[Chat], None]
    go: Callable[[Services, Chat], object]


WAYS = [
    Way("append", prepare_spoken_to, lambda services, chat: chat.say(3, services)),
    Way("archive", lambda chat: chat.say(9), lambda services, chat: archive_session(services, chat.session_id)),
    Way("archive woken", prepare_woken, lambda services, chat: archive_session(services, chat.session_id)),
    Way("archive cleared", prepare_cleared, lambda services, chat: archive_session(services, chat.session_id)),
    Way("drain", prepare_woken, close_and_drain),
    Way("drain cleared", prepare_cleared, close_and_drain),
    Way("restore", prepare_asleep, lambda services, chat: restore_session(services, chat.session_id)),
    Way("restore spoken to", prepare_spoken_to, lambda services, chat: restore_session(services, chat.session_id)),
    Way("clear", prepare_woken, clear),
    Way("pop", prepare_woken, pop),
    Way("purge", prepare_woken, purge),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.CUT_BEFORE], ids=str)
def test_a_command_that_is_lost_is_sent_again_and_done_once(
    direct: Services, through: Services, proxy: Proxy, way: Way, fault: Fault
) -> None:
    for number, chat in each_command(direct, through, proxy, way):
        proxy.plan = nth(number, fault)
        way.go(through, chat)
        proxy.plan = no_fault
        assert len(proxy.commands) >= number
        where = f"{fault} of {proxy.commands[number - 1]}, command {number}"
        try:
            chat.check()
        except (AssertionError, TorporError) as exc:
            raise AssertionError(f"{where}: {exc}") from exc
        if way.name in ("archive", "drain", "restore"):
            chat.check_archived_once()


@pytest.mark.parametrize("way", [way for way in WAYS if way.name != "append"], ids=lambda way: way.name)
def test_a_worker_that_never_hears_of_a_command_leaves_the_session_to_the_next(
    direct: Services, unretried: Services, proxy: Proxy, way: Way
) -> None:
    for number, chat in each_command(direct, unretried, proxy, way):
        proxy.plan = nth(number, Fault.LOSE_REPLY)
        ended = True
        try:
            way.go(unretried, chat)
        except RedisUnavailable:
            ended = False
        proxy.plan = no_fault
        if way.name in ("clear", "pop", "purge") and not ended:
            way.go(direct, chat)  # nothing was acknowledged: the user asks again
        try:
            chat.check()
        except (AssertionError, TorporError) as exc:
            raise AssertionError(f"lost {proxy.commands[number - 1]}, command {number}: {exc}") from exc


def each_command(direct: Services, faulty: Services, proxy: Proxy, way: Way) -> Iterator[tuple[int, Chat]]:
    """A prepared session for each command that the operation sends without a fault."""
    faulty.sessions.load_scripts()
    clean = Chat(direct, "clean")
    way.prepare(clean)
    _ = faulty.sessions.deployment  # asked for once for each client
    with faulty.sessions.purging("none", timedelta(seconds=1)) as lock:  # whose scripts are loaded once for each server
        assert lock
        assert lock.extend(timedelta(seconds=1))
    proxy.commands.clear()
    way.go(faulty, clean)
    clean.check()
    total = len(proxy.commands)
    assert total
    for number in range(1, total + 1):
        chat = Chat(direct, f"chat {number}")
        way.prepare(chat)
        proxy.commands.clear()
        yield number, chat


# Many at once


def test_many_writers_of_one_session_whose_replies_are_lost_at_once_write_each_turn_once(
    direct: Services, proxy: Proxy, scratch: Path
) -> None:
    everybody = threading.Barrier(8)
    own = [services_at(proxy.url, scratch / "archive", Retry(NoBackoff(), 5)) for _ in range(8)]
    for services in own:
        assert services.sessions.info("s") is None  # connected
    appends = count(1)
    proxy.plan = lambda name: Fault.LOSE_REPLY if name == "append" and next(appends) <= 8 else None
    chats = [Chat(direct, "s") for _ in own]

    def write(chat: Chat, services: Services) -> None:
        everybody.wait()
        for _ in range(5):
            chat.say(2, services)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, chats, own))
    proxy.plan = no_fault
    written = direct.sessions.messages("s")
    assert sorted(written) == sorted(message for chat in chats for message in chat.acknowledged)
    assert next(appends) > 48


def every_ninth() -> Plan:
    """A fault of another kind at every ninth command."""
    faults = (Fault.CUT_BEFORE, Fault.LOSE_REPLY, Fault.HALF_REPLY)
    commands = count(1)

    def plan(_: str) -> Fault | None:
        rounds, left = divmod(next(commands), 9)
        return None if left else faults[rounds % 3]

    return plan


def converse(chat: Chat, own: Services) -> None:
    for turn in range(30):
        chat.say(2, own)
        if turn % 7 == 6:
            own.sessions.close(chat.session_id)


def wake(chats: list[Chat], own: Services) -> None:
    for chat in chats:
        with suppress(SessionNotFound):
            restore_session(own, chat.session_id)


def test_writers_behind_a_line_that_keeps_breaking_write_each_turn_once_and_in_order(
    direct: Services, proxy: Proxy, scratch: Path
) -> None:
    """Four writers, a worker and a restorer, all of them behind the same line."""
    proxy.plan = every_ninth()
    chats = [Chat(direct, f"chat {number}") for number in range(4)]
    done = threading.Event()

    def connected() -> Services:
        return services_at(proxy.url, scratch / "archive", Retry(NoBackoff(), 20))

    def again_and_again(act: Callable[[Services], object], own: Services) -> None:
        while not done.is_set():
            act(own)

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(converse, chat, connected()) for chat in chats]
        workers = [
            pool.submit(again_and_again, act, connected())
            for act in (lambda own: drain(own, SHARDS), lambda own: wake(chats, own))
        ]
        wait(writers)
        done.set()
    for each in (*writers, *workers):
        each.result()
    proxy.plan = no_fault
    for chat in chats:
        chat.check()


def test_the_proxy_counts_and_names_what_it_passes_on(direct: Services, through: Services, proxy: Proxy) -> None:
    """The tests above prove nothing if this one fails."""
    plans: list[Plan] = [nth(3, Fault.CUT_BEFORE), first("info", Fault.LOSE_REPLY)]
    assert [plans[0](name) for name in "abcd"] == [None, None, Fault.CUT_BEFORE, None]
    assert [plans[1](name) for name in ("read", "info", "info")] == [None, Fault.LOSE_REPLY, None]
    direct.sessions.append("other", [b"{}"])
    _ = through.sessions.deployment
    proxy.commands.clear()
    through.sessions.append("s", [b"\r\n$3\r\n*2"])
    assert through.sessions.messages("s") == [b"\r\n$3\r\n*2"]
    assert through.sessions.due_counts() == {}
    assert proxy.commands == ["append", "read", "due"], "all shards in one script"
    with pytest.raises(RedisUnavailable):
        proxy.plan = lambda _: Fault.CUT_BEFORE
        SessionStore(redis.Redis.from_url(proxy.url, retry=NO_RETRY), shards=4).info("s")
