"""The turns of LangChain's RunnableWithMessageHistory.

It reads a history before a turn. In list mode it reads it again at the end, only to count the messages, and takes that
many off the turn's input; the rest is new. If the session was archived, woken, cleared, purged or written to meanwhile,
the count is wrong: with too few, old messages are written a second time; with too many, new ones are not written.
Therefore the read at the end returns the messages with which the turn began.

Which read it is, a run says: each read happens in the context of a run, which follows it into tasks and threads. The
runs of a turn are:

    turn                        any name
    ├── (insert_history         if the messages go under a key of the input
    │   └── RunnableParallel)
    │       └── load_history    reads the messages with which the turn begins
    └── check_sync_or_async     counts the messages when the run below has ended
        └── the runnable        what it reads and writes itself is fresh
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.runnables import ensure_config

# The names under which LangChain's traces show these runs.
LOAD, INSERT = "load_history", "insert_history"
_KEY = "map:key:"

# LangChain tells of the end of each run. This bounds the memory should one never end.
_MOST_RUNS = 50_000


@dataclass(slots=True)
class _Run:
    parent: UUID | None
    name: str
    key: str | None = None  # the key of the input under which the messages go, of load_history
    inputs: Any = None
    child_ended: bool = False
    begun: dict[Hashable, Sequence[BaseMessage]] = field(default_factory=dict)  # of a turn: history -> its messages


class _Runs(BaseCallbackHandler):
    """The runs that have not ended. Safe to share among threads, as dicts are."""

    run_inline = True  # before the listeners at the end of the same run
    ignore_retriever = ignore_agent = ignore_chat_model = ignore_retry = ignore_custom_event = True

    def __init__(self) -> None:
        self.running: OrderedDict[UUID, _Run] = OrderedDict()

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **more: Any) -> None:  # noqa: ARG002
        run = _Run(more.get("parent_run_id"), more.get("name") or "")
        if run.name == LOAD:
            run.inputs = inputs
            run.key = next((tag.removeprefix(_KEY) for tag in more.get("tags") or () if tag.startswith(_KEY)), None)
        self.running[run_id] = run
        if len(self.running) > _MOST_RUNS:
            self.running.popitem(last=False)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **more: Any) -> None:  # noqa: ARG002
        run = self.running.get(run_id)
        # If the messages have a key of their own, LangChain does not count them at the end. In a stream, the inputs are
        # known only now.
        if run and run.key is not None and run.key not in (more.get("inputs") or run.inputs):
            self._forget_turn(run)
        self._end(run_id, more.get("parent_run_id"))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:  # noqa: ARG002
        self._end(run_id, more.get("parent_run_id"))

    def on_llm_end(self, response: Any, *, run_id: UUID, **more: Any) -> None:  # noqa: ARG002
        self._end(run_id, more.get("parent_run_id"))

    def _end(self, run_id: UUID, parent_run_id: UUID | None) -> None:
        self.running.pop(run_id, None)
        if parent_run_id and (parent := self.running.get(parent_run_id)):
            parent.child_ended = True

    def _forget_turn(self, load: _Run) -> None:
        if turn := self.turn_of(load):
            turn.begun.clear()

    def turn_of(self, load: _Run) -> _Run | None:
        """The turn that this run of load_history begins."""
        above = list(self._above(load))
        place = next((place for place, run in enumerate(above[:2]) if run.name == INSERT), -1)
        return above[place + 1] if len(above) > place + 1 else None

    def current(self) -> _Run | None:
        """The run in whose context the caller is."""
        if not self.running:
            return None
        run_id = getattr(ensure_config().get("callbacks"), "parent_run_id", None)
        return self.running.get(run_id) if run_id else None

    def _above(self, run: _Run) -> Iterator[_Run]:
        while run.parent and (parent := self.running.get(run.parent)):
            yield (run := parent)

    def parent(self, run: _Run) -> _Run | None:
        """The run that has started this one."""
        return next(self._above(run), None)


_runs = _Runs()
_handler: ContextVar[_Runs | None] = ContextVar("torpor_runs", default=_runs)


@cache
def _follow_runs() -> None:
    """Have LangChain tell of its runs, from now on."""
    from langchain_core.tracers.context import register_configure_hook  # takes its time

    register_configure_hook(_handler, inheritable=True)


class Turns:
    """The messages with which each running turn of a history began; safe to share among threads and tasks."""

    def __init__(self, history: Hashable) -> None:
        """`history` is the same for all objects of one history."""
        self._history = history
        _follow_runs()

    def read_again(self) -> list[BaseMessage] | None:
        """The messages for LangChain's read at the end of a turn; None if this is another read."""
        run = _runs.current()
        if run is None or run.name == LOAD or not run.child_ended:
            return None
        turn = _runs.parent(run)
        begun = turn.begun.pop(self._history, None) if turn else None
        return None if begun is None else list(begun)

    def read(self, messages: Sequence[BaseMessage]) -> None:
        """Remember the messages of a read that begins a turn of LangChain's."""
        run = _runs.current()
        if run and run.name == LOAD and (turn := _runs.turn_of(run)):
            turn.begun[self._history] = list(messages)
