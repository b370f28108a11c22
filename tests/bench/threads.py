"""Measures threads of LangGraph beside the savers for plain Redis that a user would pick instead.

A conversation of an agent with a tool is played once, and the calls that LangGraph made of its saver are replayed on
each side: five checkpoints and four tasks' writes a turn.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

    def __init__(self, make: Callable[[], Any], turns: int) -> None:
        self.make = make
        self.saver = saver = make()
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


def _server_cpu(_bench: Bench, client: redis.Redis, side: _Saver) -> float:
    side.replay()
    before = _cpu(client)
    for _ in range(3):
        side.replay()
    return 1e6 * (_cpu(client) - before) / side.supersteps / 3


def _cpu(client: redis.Redis) -> float:
    cpu: Any = client.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def _read_again(bench: Bench, client: redis.Redis, side: _Saver) -> float:
    """The CPU of a read by a process that has written and read the thread before, of client and Redis together."""
    where: Any = {"configurable": {"thread_id": side.replay(), "checkpoint_ns": ""}}
    for _ in range(2):
        side.saver.get_tuple(where)
    return _of_reads(client, [side.saver] * bench.size(30, 3), where)


def _read_first(bench: Bench, client: redis.Redis, side: _Saver) -> float:
    """The same by a process that has not seen the thread."""
    where: Any = {"configurable": {"thread_id": side.replay(), "checkpoint_ns": ""}}
    other: Any = {"configurable": {"thread_id": "another", "checkpoint_ns": ""}}
    savers = [side.make() for _ in range(bench.size(30, 3))]
    for saver in savers:
        saver.get_tuple(other)
    return _of_reads(client, savers, where)


def _of_reads(client: redis.Redis, savers: Sequence[Any], where: Any) -> float:
    gc.collect()
    server, begun = _cpu(client), time.process_time()
    for saver in savers:
        assert saver.get_tuple(where)
    used = time.process_time() - begun
    return 1e6 * (used + _cpu(client) - server) / len(savers)


def _beside(peer: Callable[[redis.Redis], Any], unit: Unit, turns: int) -> Any:
    """The set-up of a row: our saver and a peer."""

    @contextmanager
    def setup(bench: Bench) -> Iterator[Sides]:
        with bench.client() as client:

            def measure(make: Callable[[redis.Redis], Any]) -> Measure:
                def measured() -> float:
                    found = unit(bench, client, _Saver(lambda: make(client), turns))
                    client.flushall()
                    return found

                return measured

            yield Sides(measure(_ours), measure(peer))

    return setup


_SERIALIZED = (
    "All sides pack the whole list of messages at each checkpoint: LangGraph's serializer takes 2.7 µs a message, "
    "Torpor 1. Of the rest, redis-py has more than half: it sends 28 arguments, takes a connection and gives it back, "
    "and measures."
)
_SCRIPTS = "A write is one script, which does what the peers leave out: owner, due moment, index, requests sent twice."
_DECODED = (
    "All sides make each message anew: LangGraph's serializer in 9 µs, Torpor in 6, which nearly all is LangChain's "
    "validation; that is 1,150 µs of 200 messages. The parts of the list are read from as many records inside Redis, "
    "4 µs each, half of which is LINDEX."
)


def _row(name: str, figure: str, setup: Any, limit: float, why: str, *, unit: str = "µs of CPU") -> Row:
    return Row(
        f"thread {name}",
        figure,
        unit,
        setup,
        [Reach(limit, Side.PEER)],
        "MemorystoreSaver with ttl and owner",
        "the same calls by the peer's blocking saver",
        why=why,
        most_rounds=15,
        profiled=False,
    )


_PEERS = [("plainredis", _plainredis), ("ValkeySaver", _valkeysaver)]

ROWS = [
    row
    for peer, make in _PEERS
    for row in (
        _row(f"bytes {peer}", f"Redis bytes of 10 turns, {peer}", _beside(make, _bytes, 10), 0.15, "", unit="bytes"),
        _row(f"bytes 50 {peer}", f"Redis bytes of 50 turns, {peer}", _beside(make, _bytes, 50), 0.03, "", unit="bytes"),
        _row(
            f"client {peer}",
            f"client, a superstep, {peer}",
            _beside(make, _client_cpu, 10),
            0.7 if peer == "plainredis" else 0.9,
            _SERIALIZED,
        ),
        _row(f"server {peer}", f"Redis, a superstep, {peer}", _beside(make, _server_cpu, 10), 1.3, _SCRIPTS),
        _row(f"read {peer}", f"get_tuple again, 10 turns, {peer}", _beside(make, _read_again, 10), 0.8, _DECODED),
        _row(f"read 50 {peer}", f"get_tuple again, 50 turns, {peer}", _beside(make, _read_again, 50), 0.5, _DECODED),
        _row(
            f"first {peer}", f"get_tuple for the first time, 10, {peer}", _beside(make, _read_first, 10), 0.8, _DECODED
        ),
        _row(
            f"first 50 {peer}",
            f"get_tuple for the first time, 50, {peer}",
            _beside(make, _read_first, 50),
            0.5,
            _DECODED,
        ),
    )
]
