"""A deployment that is being switched to compression, or back: some clients began before it, and others after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, message_to_dict

from dictionary.samples import Samples
from ledger.threads import GrowingThread, text_of, wrong_values
from support.captured import LANGCHAIN_JS, LLAMAINDEX
from support.compressing import compressed, set_to, stored
from support.keyspace import raw
from support.servers import RedisServer
from support.transcripts import read_transcript
from torpor import MemorystoreChatMessageHistory, MemorystoreSaver
from torpor.history.calls import configuration
from torpor.history.protocol import FORMATS, Compression, SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import purge
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.transfer.give_back import give_back, returned
from torpor.worker.wake.restore import RestoreOutcome, restore_session

pytestmark = pytest.mark.skipif(
    configuration.UNRECORDED is Compression.ZSTD, reason="with --compression no deployment does without"
)
MESSAGES = list(Samples(11).some(40))


@dataclass(frozen=True)
class Clients:
    """Two clients of one deployment, the second of which began after the setting had changed."""

    plain: redis.Redis
    compressing: redis.Redis

    @property
    def both(self) -> tuple[redis.Redis, redis.Redis]:
        return self.plain, self.compressing

    @property
    def stores(self) -> tuple[SessionStore, SessionStore]:
        return SessionStore(self.plain), SessionStore(self.compressing)

    def of(self, how: Compression) -> SessionStore:
        return SessionStore(self.compressing if how is Compression.ZSTD else self.plain)


@pytest.fixture(params=["switched on", "switched off"])
def clients(request: pytest.FixtureRequest, client: redis.Redis, redis_server: RedisServer) -> Iterator[Clients]:
    before, after = Compression.NONE, Compression.ZSTD
    if request.param == "switched off":
        before, after = after, before
    with redis_server.client() as old, redis_server.client() as new:
        set_to(old, before)
        set_to(new, after)
        assert [SessionStore(each).deployment.compression for each in (old, new)] == [before, after]
        yield Clients(old, new) if after is Compression.ZSTD else Clients(new, old)


def mix(clients: Clients, count: int = 40, session_id: str = "s") -> None:
    """Messages of both, five at a time; the first are plain."""
    for first in range(0, count, 10):
        for store, start in zip(clients.stores, (first, first + 5), strict=True):
            store.append(session_id, MESSAGES[start : start + 5])


def test_both_write_and_read_one_session(clients: Clients) -> None:
    histories = [MemorystoreChatMessageHistory(each, "s", owner="ann") for each in clients.both]
    said: list[BaseMessage] = []
    for number in range(3):
        for chat in histories:
            turn = [HumanMessage(f"Could you please tell me more? {number}"), AIMessage("One moment, please.")]
            chat.add_messages(turn)
            said += turn
    assert compressed(clients.plain) == [False, False, True, True] * 3
    for chat in histories:
        assert chat.messages == said
        assert chat.last(3) == said[-3:]
        assert [each for page in chat.pages(5) for each in page] == said
        assert [each for page in chat.pages(5, newest_first=True) for each in reversed(page)] == said[::-1]


@pytest.mark.parametrize("popping", Compression)
def test_the_last_message_is_taken_back_by_either(clients: Clients, services: Services, popping: Compression) -> None:
    mix(clients, 10)
    restore_session(services, "s")  # tells Redis that the archive has nothing of it
    store = clients.of(popping)
    for left in range(9, 0, -1):
        [page] = store.pages("s", -1)
        assert page.messages == [MESSAGES[left]]
        assert store.pop("s", page)
        assert [each.messages("s") for each in clients.stores] == 2 * [MESSAGES[:left]]


@pytest.mark.parametrize("waking", Compression)
def test_a_session_sleeps_and_wakes_whole_whoever_does_it(
    clients: Clients, services: Services, waking: Compression
) -> None:
    mix(clients, 20)
    awake = replace(services, sessions=clients.of(waking))
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    for store, start in zip(clients.stores, (20, 25), strict=True):
        store.append("s", MESSAGES[start : start + 5])  # while it sleeps
    assert restore_session(awake, "s").outcome is RestoreOutcome.RESTORED
    assert [store.messages("s") for store in clients.stores] == 2 * [MESSAGES[:30]]
    assert compressed(clients.plain) == 20 * [waking is Compression.ZSTD] + 5 * [False] + 5 * [True]
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    assert read_transcript(awake, "s") == MESSAGES[:30]


@pytest.mark.parametrize("how", Compression)
def test_a_session_is_rewritten_while_both_go_on(clients: Clients, how: Compression) -> None:
    mix(clients, 20)
    done = clients.of(how).repack("s", how)
    assert (done.messages, done.changed) == (10, False)
    assert compressed(clients.plain) == 20 * [how is Compression.ZSTD]
    for store, start in zip(clients.stores, (20, 25), strict=True):
        store.append("s", MESSAGES[start : start + 5])
    assert [store.messages("s") for store in clients.stores] == 2 * [MESSAGES[:30]]


@pytest.mark.parametrize("purging", Compression)
def test_a_purge_counts_and_removes_messages_of_both_forms(
    clients: Clients, services: Services, purging: Compression
) -> None:
    mix(clients, 20)
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    for store, start in zip(clients.stores, (20, 25), strict=True):
        store.append("s", MESSAGES[start : start + 5])
    standing = purge(replace(services, sessions=clients.of(purging)), Order.of(session="s"))
    assert standing.receipt
    assert standing.receipt.removed.messages == 30
    assert not raw(clients.plain, "KEYS", "*:m:s")
    assert not list(services.archive.list("s/"))


def test_both_write_and_read_a_thread_which_stays_as_it_is(clients: Clients, services: Services) -> None:
    threads = [GrowingThread(MemorystoreSaver(each), "t", None) for each in clients.both]
    for number in range(3):
        for name, thread in zip("ab", threads, strict=True):
            thread.forget()
            thread.catch_up()
            thread.put([f"{name}{number}"])
            thread.put_writes([f"{name}{number} done"])
    elements = clients.of(Compression.NONE).messages("t")
    assert [text_of(each) for each in elements] == [
        f"{name}{number}{what}" for number in range(3) for name in "ab" for what in ("", " done")
    ]
    assert wrong_values("t", elements) == []
    assert stored(clients.plain, "t") == elements
    for how in Compression:
        other = replace(services, sessions=clients.of(how))
        assert archive_session(other, "t").outcome is Outcome.ARCHIVED
        assert restore_session(other, "t").outcome is RestoreOutcome.RESTORED
        assert stored(clients.plain, "t") == elements


_SAID = [message_to_dict(HumanMessage(f"Is there anything else that I can do for you? {n}")) for n in range(10)]
_ITEMS = [{"role": "user", "content": f"Is there anything else that I can do for you? {n}"} for n in range(10)]
# Sessions of other libraries, oldest first. test_langchain_redis.py, which CI runs with compression too, has documents.
THEIRS: dict[str, list[bytes]] = {
    "memorystore": [json.dumps(each).encode() for each in _SAID],
    "community": [json.dumps(each).encode() for each in _SAID],
    "langchain-js": [element for version in LANGCHAIN_JS for element in version.session[::-1]],
    "llamaindex": [element for version in LLAMAINDEX for element in version.session],
    "openai-agents": [json.dumps(each).encode() for each in _ITEMS],
}


@pytest.mark.parametrize("name", THEIRS)
def test_what_both_adopt_goes_back_as_it_came(clients: Clients, services: Services, name: str) -> None:
    layout, theirs = FORMATS[name], THEIRS[name]
    half = len(theirs) // 2
    for store, some in zip(clients.stores, (theirs[:half], theirs[half:]), strict=True):
        raw(store.client, "LPUSH" if layout.newest_first else "RPUSH", layout.key("s"), *some)
        assert store.adopt("s", layout) == len(some)
        assert not raw(store.client, "EXISTS", layout.key("s"))
    assert compressed(clients.plain) == half * [False] + (len(theirs) - half) * [True]
    for how in Compression:
        back = returned(layout, f"{how}:")
        give_back(replace(services, sessions=clients.of(how)), "s", back)
        found = raw(clients.plain, "LRANGE", back.key("s"), 0, -1)
        found = found[::-1] if layout.newest_first else found
        assert [json.loads(each) for each in found] == [json.loads(each) for each in theirs]


def test_every_format_that_gives_back_is_tried() -> None:
    assert set(THEIRS) == {name for name, layout in FORMATS.items() if layout.gives}
