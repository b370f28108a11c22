"""Sessions of the Agents SDK's own RedisSession, with the SDK itself: adopted, asleep, and taken on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from agents import Agent, RunConfig, Runner
from agents.extensions.memory import RedisSession

from support.adopting import Killed, Moments, leftovers
from support.agent_items import ITEMS
from support.command import Torpor
from support.fake_models import AgentParrot
from support.keyspace import dump, raw
from support.observed import ObservedStore
from support.servers import RedisServer
from torpor import InvalidArgument, MemorystoreChatMessageHistory, MemorystoreSession, NotAdoptable, SessionArchive
from torpor.history.protocol import FORMATS
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session

AGENTS = FORMATS["openai-agents"]
OFFLINE = RunConfig(tracing_disabled=True)

pytestmark = pytest.mark.single_node(reason="the SDK's session has no transactions on a Cluster")
folder = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


class Peer:
    """Runs coroutines over a client of asyncio."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def run(self, body: Callable[[Any], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            server = self._server
            async with redis.asyncio.Redis(port=server.port, username=server.user, password=server.password) as client:
                return await body(client)

        return asyncio.run(connected())

    def write(self, session_id: str, items: list[Any], **options: Any) -> None:
        self.run(lambda client: RedisSession(session_id, redis_client=client, **options).add_items(items))

    def theirs(self, session_id: str) -> Any:
        return self.run(lambda client: RedisSession(session_id, redis_client=client).get_items())

    def ours(self, session_id: str, **options: Any) -> Any:
        return self.run(lambda client: MemorystoreSession(client, session_id, **options).get_items())


@pytest.fixture
def peer(redis_server: RedisServer) -> Peer:
    return Peer(redis_server)


@folder
def test_the_first_use_takes_over_all_items_and_all_keys(client: redis.Redis, services: Services, peer: Peer) -> None:
    peer.write("s", ITEMS, ttl=600)
    raw(client, "SET", "agents:session:s:counter", "7")
    elements = raw(client, "LRANGE", "agents:session:s:messages", 0, -1)
    assert peer.ours("s", adopt="openai-agents") == ITEMS
    assert raw(client, "KEYS", "agents:*") == []
    assert services.sessions.messages("s") == elements
    info = services.sessions.info("s")
    assert info
    assert 595 <= info.idle_timeout.total_seconds() <= 600
    archive_session(services, "s")
    assert peer.ours("s", archive=SessionArchive(services.archive.url)) == ITEMS


def test_an_agent_goes_on_with_its_session(peer: Peer) -> None:
    async def converse(session: Any) -> Any:
        return await Runner.run(Agent("bot", model=AgentParrot()), "again", session=session, run_config=OFFLINE)

    peer.run(lambda client: converse(RedisSession("s", redis_client=client)))
    before = peer.theirs("s")
    peer.run(lambda client: converse(MemorystoreSession(client, "s", adopt="openai-agents")))
    after = peer.ours("s")
    assert after[: len(before)] == before
    assert len(after) == 2 * len(before) > 2


def test_what_an_old_process_adds_is_adopted_too(client: redis.Redis, peer: Peer) -> None:
    peer.write("s", ITEMS[:2])
    peer.ours("s", adopt="openai-agents")
    peer.write("s", ITEMS[2:])
    assert peer.ours("s", adopt="openai-agents") == ITEMS
    assert raw(client, "KEYS", "agents:*") == []


@pytest.mark.parametrize("element", ["no JSON", '"text"', '{"type":"human","data":{"content":"x"}}', "[]"])
def test_a_list_with_anything_else_stays_as_it_is(client: redis.Redis, peer: Peer, element: str) -> None:
    peer.write("s", ITEMS)
    raw(client, "RPUSH", "agents:session:s:messages", element)
    before = dump(client)
    with pytest.raises(NotAdoptable, match="message 7: not all of it is items of the Agents SDK"):
        peer.ours("s", adopt="openai-agents")
    assert {key: value for key, value in dump(client).items() if key != b"torpor:config"} == before


def test_a_key_of_another_type_beside_it_stays(client: redis.Redis, peer: Peer) -> None:
    peer.write("s", ITEMS)
    raw(client, "RPUSH", "agents:session:s:counter", "another program's")
    assert peer.ours("s", adopt="openai-agents") == ITEMS
    assert raw(client, "KEYS", "agents:*") == [b"agents:session:s:counter"]


@folder
def test_killed_anywhere_an_adoption_is_finished_by_the_next(
    client: redis.Redis, services: Services, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.history.store.adoption.PAGE_BYTES", 200)
    moment, done = 0, False
    while not done:
        session_id = f"s{moment}"
        peer.write(session_id, ITEMS)
        passing = Moments()
        store = ObservedStore(client, passing)
        passing.passed, passing.dies_at = 0, moment
        try:
            store.adopt(session_id, AGENTS)
            done = True
        except Killed:
            pass
        for begun in services.sessions.adoptions():
            services.sessions.finish_adoption(begun)
        assert peer.ours(session_id, adopt="openai-agents") == ITEMS, moment
        assert leftovers(client) == raw(client, "KEYS", "agents:*") == []
        moment += 1
    assert moment > 20


@folder
def test_in_bulk_with_a_prefix_of_ones_own(client: redis.Redis, peer: Peer, torpor: Torpor) -> None:
    for number in range(3):
        peer.write(f"user-{number}", ITEMS, key_prefix="mine")
    peer.write("other", ITEMS)
    bulk = ("adopt", "--format", "openai-agents", "--json")
    planned = torpor(*bulk, "--match", "user-*", "--prefix", "mine:", "--dry-run").json
    assert (planned["sessions"], planned["messages"], planned["left"]) == (3, 3 * len(ITEMS), {})
    assert planned["planned"][0]["first"] == ITEMS[0]
    done = torpor(*bulk, "--match", "*", "--prefix", "mine:").json
    assert (done["sessions"], done["messages"], done["left"]) == (3, 3 * len(ITEMS), {})
    assert peer.ours("user-1") == ITEMS
    assert raw(client, "KEYS", "mine:*") == []
    assert torpor(*bulk, "--match", "*").json["sessions"] == 1
    assert peer.ours("other") == ITEMS


@folder
def test_another_format_leaves_its_keys(client: redis.Redis, peer: Peer, torpor: Torpor) -> None:
    peer.write("s", ITEMS)
    before = dump(client)
    left = torpor("adopt", "--match", "*", "--format", "memorystore", "--json").json["left"]
    assert {reason: each["example"] for reason, each in left.items()} == {
        "it has the prefix of another format: --format openai-agents": "agents:session:s:messages",
        "it is a hash and no list": "agents:session:s",
    }
    assert dump(client).items() >= before.items()


def test_each_framework_adopts_what_it_can_read(client: redis.Redis, peer: Peer) -> None:
    with pytest.raises(InvalidArgument, match="MemorystoreSession adopts"):
        MemorystoreChatMessageHistory(client, "s", adopt="openai-agents")
    with pytest.raises(InvalidArgument, match="MemorystoreChatMessageHistory adopts"):
        peer.ours("s", adopt="langchain-js")
    with pytest.raises(InvalidArgument, match="one of openai-agents, not 'memory'"):
        peer.ours("s", adopt="memory")
