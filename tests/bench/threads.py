"""Measures threads of LangGraph beside the savers for plain Redis that a user would pick instead.

A conversation of an agent with a tool is played once, and the calls that LangGraph made of its saver are replayed on
each side: five checkpoints and four tasks' writes a turn.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any

import redis
import valkey
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from bench.chats import text
from bench.harness import Bench, Measure, Reach, Row, Side, Sides
from torpor import MemorystoreSaver

Call = tuple[str, tuple[Any, ...]]
_numbers = count()


class _Model(BaseChatModel):
    """Asks its tool, and then answers."""

    @property
    def _llm_type(self) -> str:
        return "bench"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            said = AIMessage(text(600))
        else:
            said = AIMessage(
                "", tool_calls=[{"name": "lookup", "args": {"order": "A-1"}, "id": f"call-{len(messages)}"}]
            )
        return ChatResult(generations=[ChatGeneration(message=said)])


@tool
def lookup(order: str) -> str:
    """Find an order."""
    return text(300)


class _Recorder(InMemorySaver):
    """Notes the calls that write."""

    def __init__(self, versions: Callable[..., Any]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.get_next_version = versions  # type: ignore[method-assign]

    def put(self, *args: Any) -> Any:
        self.calls.append(("put", copy.deepcopy((_named(args[0]), *args[1:]))))
        return super().put(*args)

    def put_writes(self, *args: Any) -> None:
        self.calls.append(("put_writes", copy.deepcopy((_named(args[0]), *args[1:]))))
        super().put_writes(*args)


def _named(config: Any) -> dict[str, Any]:
    return {key: config["configurable"].get(key) for key in ("checkpoint_ns", "checkpoint_id")}


@cache
def _conversation(turns: int, versions: Callable[..., Any]) -> list[Call]:
    """The calls of a conversation, with the versions that a saver gives."""
    recorder = _Recorder(versions)
    agent = create_agent(_Model(), [lookup], checkpointer=recorder)
    for _ in range(turns):
        said: Any = {"messages": [HumanMessage(text(60))]}
        agent.invoke(said, {"configurable": {"thread_id": "t"}}, durability="sync")
    return recorder.calls


def _replay(saver: Any, calls: Sequence[Call], thread: str) -> None:
    for name, (named, *args) in calls:
        where = {key: value for key, value in named.items() if value is not None}
        getattr(saver, name)({"configurable": {"thread_id": thread, **where}}, *args)


class _Saver:
    """A saver, and the conversation with its versions."""

    def __init__(self, saver: Any, turns: int) -> None:
        self.saver = saver
        self.calls = _conversation(turns, type(saver).get_next_version.__get__(saver))
        self.supersteps = sum(name == "put" for name, _ in self.calls)

    def replay(self) -> str:
        """Play the conversation into a new thread; returns its id."""
        thread = f"thread-{next(_numbers):06}"
        _replay(self.saver, self.calls, thread)
        return thread


def _ours(client: redis.Redis) -> Any:
    return MemorystoreSaver(client, ttl=3_600, owner="ann")


def _plainredis(client: redis.Redis) -> Any:
    from langgraph_checkpoint_plainredis import RedisSaver  # only the environment of `make bench` has it

    return RedisSaver(client)


def _valkeysaver(client: redis.Redis) -> Any:
    from langgraph_checkpoint_aws.checkpoint.valkey import ValkeySaver

    where = client.connection_pool.connection_kwargs
    return ValkeySaver(valkey.Valkey(host=where["host"], port=where["port"]))


Unit = Callable[[Bench, redis.Redis, _Saver], float]


def _bytes(bench: Bench, client: redis.Redis, side: _Saver) -> float:
    """The growth of `used_memory` for a thread."""
    threads = bench.size(10, 3)
    side.replay()
    before = _used(client)
    for _ in range(threads):
        side.replay()
    return (_used(client) - before) / threads


def _used(client: redis.Redis) -> int:
    memory: Any = client.info("memory")
    return int(memory["used_memory"])


def _client_cpu(bench: Bench, _: redis.Redis, side: _Saver) -> float:
    return 1e6 * bench.clock.cpu_seconds(side.replay) / side.supersteps


def _server_cpu(_: Bench, client: redis.Redis, side: _Saver) -> float:
    before = _cpu(client)
    side.replay()
    return 1e6 * (_cpu(client) - before) / side.supersteps


def _cpu(client: redis.Redis) -> float:
    cpu: Any = client.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def _read(bench: Bench, _client: redis.Redis, side: _Saver) -> float:
    thread = side.replay()
    reads = bench.size(30, 3)
    begun = time.perf_counter()
    for _ in range(reads):
        assert side.saver.get_tuple({"configurable": {"thread_id": thread, "checkpoint_ns": ""}})
    return 1e6 * (time.perf_counter() - begun) / reads


def _beside(peer: Callable[[redis.Redis], Any], unit: Unit, turns: int) -> Any:
    """The set-up of a row: our saver and a peer."""

    @contextmanager
    def setup(bench: Bench) -> Iterator[Sides]:
        with bench.client() as client:

            def measure(make: Callable[[redis.Redis], Any]) -> Measure:
                def measured() -> float:
                    found = unit(bench, client, _Saver(make(client), turns))
                    client.flushall()
                    return found

                return measured

            yield Sides(measure(_ours), measure(peer))

    return setup


def _row(name: str, figure: str, unit: str, setup: Any, limit: float) -> Row:
    return Row(
        f"thread {name}",
        f"LangGraph thread: {figure}",
        unit,
        setup,
        [Reach(limit, Side.PEER)],
        "an agent with a tool, a turn of five checkpoints and four tasks' writes; MemorystoreSaver with ttl and owner",
        "the same calls by the peer's blocking saver",
        why="A call is a script, which costs Redis more than single commands do. The messages are serialized anew at "
        "each checkpoint on every side.",
        most_rounds=7,
        profiled=False,
    )


ROWS = [
    _row("bytes", "Redis bytes of 10 turns, beside plainredis", "bytes", _beside(_plainredis, _bytes, 10), 0.15),
    _row("bytes 50", "Redis bytes of 50 turns, beside plainredis", "bytes", _beside(_plainredis, _bytes, 50), 0.03),
    _row("client", "client CPU a superstep, beside plainredis", "µs", _beside(_plainredis, _client_cpu, 10), 0.7),
    _row("client vs", "client CPU a superstep, beside ValkeySaver", "µs", _beside(_valkeysaver, _client_cpu, 10), 0.9),
    _row("server", "Redis CPU a superstep, beside plainredis", "µs", _beside(_plainredis, _server_cpu, 10), 1.3),
    _row("read", "get_tuple after 10 turns, beside plainredis", "µs", _beside(_plainredis, _read, 10), 0.8),
    _row("read 50", "get_tuple after 50 turns, beside plainredis", "µs", _beside(_plainredis, _read, 50), 0.5),
]
