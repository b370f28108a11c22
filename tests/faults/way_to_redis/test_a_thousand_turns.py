"""A thousand users ask at once, of one node and of a Cluster: no turn is answered and lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from support.clusters import ClusterServer, start_cluster
from support.servers import RedisServer, start_redis
from torpor import MemorystoreChatMessageHistory, connect
from torpor.history.protocol import SessionStore

pytestmark = [
    pytest.mark.single_node(reason="these tests start both kinds of servers themselves"),
    pytest.mark.filterwarnings(
        "ignore:RunnableWithMessageHistory is deprecated:langchain_core._api.deprecation.LangChainDeprecationWarning"
    ),
    pytest.mark.timeout(180),
]
USERS = [f"user-{number}" for number in range(1000)]


@pytest.fixture(params=["node", "cluster"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp(request.param)
    started: RedisServer = start_cluster(folder) if request.param == "cluster" else start_redis(folder)
    yield started
    started.stop()


def connected(server: RedisServer, **options: Any) -> Any:
    return connect(server.url, cluster=isinstance(server, ClusterServer), **options)


def bot_over(client: Any) -> RunnableWithMessageHistory:
    """A bot that repeats each question."""

    def answer(messages: list[BaseMessage]) -> BaseMessage:
        return AIMessage(messages[-1].content)

    return RunnableWithMessageHistory(
        RunnableLambda(answer), lambda session_id: MemorystoreChatMessageHistory(client, session_id)
    )


def asked(user: str) -> tuple[Any, Any]:
    return [HumanMessage(user)], {"configurable": {"session_id": user}}


def check(server: RedisServer, answers: list[BaseMessage]) -> None:
    assert [answer.content for answer in answers] == USERS
    with server.client() as client:
        found = SessionStore(client).infos(USERS)
    lost = [user for user, info in zip(USERS, found, strict=True) if getattr(info, "message_count", 0) != 2]
    assert not lost, f"answered and not kept: {len(lost)}"


def test_of_a_thousand_turns_in_threads_none_is_answered_and_lost(server: RedisServer) -> None:
    client = connected(server)
    bot = bot_over(client)
    with ThreadPoolExecutor(len(USERS)) as threads:
        check(server, list(threads.map(lambda user: bot.invoke(*asked(user)), USERS)))
    client.close()


def test_of_a_thousand_turns_in_tasks_none_is_answered_and_lost(server: RedisServer) -> None:
    async def ask() -> list[BaseMessage]:
        client = connected(server, asynchronous=True)
        bot = bot_over(client)
        answers: list[BaseMessage] = await asyncio.gather(*(bot.ainvoke(*asked(user)) for user in USERS))
        await client.aclose()
        return answers

    check(server, asyncio.run(ask()))
