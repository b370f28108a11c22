"""Random calls of several savers against LangGraph's InMemorySaver, with sleeps, wakes and failures in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import INTERRUPT, RESUME

from support.savers import AnySaver, asyncio_saver, checkpoint, config, seen
from support.servers import RedisServer
from torpor import MemorystoreSaver
from torpor.worker import failpoints
from torpor.worker.deployment.services import Services
from torpor.worker.failpoints import Failpoint
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.session_archive import SessionArchive

pytestmark = pytest.mark.slow

NAMESPACES = ["", "sub:1"]
COPIES = count()
KILLS = [Failpoint.ARCHIVE_BEGUN, Failpoint.ARCHIVE_PACKED, Failpoint.ARCHIVE_SENT, Failpoint.ARCHIVE_VERIFIED]

OTHERS = ["edit", "drop", "scalar", "keep", "interrupt", "get", "list", "kill", "check", "copy", "prune"]
# (what, which saver, which checkpoint, a number)
steps = st.lists(
    st.tuples(
        st.sampled_from(["append"] * 3 + ["writes"] * 2 + ["sleep"] * 2 + OTHERS),
        st.integers(0, 2),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    min_size=20,
    max_size=60,
)


class Killed(BaseException):
    """A worker that dies here."""


@dataclass
class Branch:
    """A checkpoint that other ones may continue: its config, and the values and versions of its channels."""

    config: Any
    values: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)


@dataclass
class Played:
    """A thread that several savers and the model were given the same calls for."""

    savers: list[AnySaver]
    services: Services
    model: InMemorySaver = field(default_factory=InMemorySaver)
    branches: list[Branch] = field(default_factory=lambda: [Branch(config(ns=ns)) for ns in NAMESPACES])
    counted: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def play(self, step: tuple[str, int, int, int]) -> None:
        what, who, which, number = step
        saver = self.savers[who % len(self.savers)]
        branch = self.branches[-1 - which % len(self.branches)]
        self.number += 1
        if what in ("append", "edit", "drop", "scalar", "keep"):
            self.put(saver, branch, what, number)
        elif what in ("writes", "interrupt"):
            self.put_writes(saver, branch, what, number)
        elif what == "get":
            assert seen([saver.get_tuple(branch.config)]) == seen([self.model.get_tuple(branch.config)])
        elif what in ("copy", "prune"):
            getattr(self, what)(saver)
        elif what == "list":
            wanted: Any = {"filter": {"step": number}, "limit": 2} if number else {}
            given = config(ns=branch.config["configurable"]["checkpoint_ns"])
            assert seen(saver.list(given, **wanted)) == seen([*self.model.list(given, **wanted)])
        else:
            getattr(self, what)()
        self.counted[what] = self.counted.get(what, 0) + 1

    def put(self, saver: AnySaver, branch: Branch, what: str, number: int) -> None:
        values, versions = dict(branch.values), dict(branch.versions)
        changed = self.change(values, what, number)
        new = {name: saver.saver.get_next_version(versions.get(name), None) for name in changed}
        versions |= new
        made = checkpoint(values, versions)
        metadata = {"source": "loop", "step": number, "parents": {}}
        given: Any = (branch.config, made, metadata, new)
        written = saver.put(*deepcopy(given))
        assert written == self.model.put(*deepcopy(given))
        self.branches.append(Branch(written, values, versions))

    def change(self, values: dict[str, Any], what: str, number: int) -> list[str]:
        """Change some channels as a superstep does; returns those that have a new version."""
        messages = list(values.get("messages", []))
        text = f"message {self.number} " * (1 + 5 * number)
        if what == "append":
            values["messages"] = [*messages, HumanMessage(text, id=f"h{self.number}"), AIMessage(text)]
            values["branch:to:model"] = None
            return ["messages", "branch:to:model"]
        if what == "edit" and messages:
            values["messages"] = [*messages[: number % len(messages)], HumanMessage(text)]
            return ["messages"]
        if what == "drop":
            values.pop("messages", None)
            return ["messages"]
        if what == "scalar":
            values["count"] = {"number": number, "bytes": b"\x00\xff", "text": text}
            return ["count"]
        return []

    def put_writes(self, saver: AnySaver, branch: Branch, what: str, number: int) -> None:
        if "checkpoint_id" not in branch.config["configurable"]:
            return
        task, path = f"task-{number}", f"~pull, {3 - number}"
        writes: list[tuple[str, Any]] = [("messages", [HumanMessage(f"write {self.number}")]), ("count", self.number)]
        if what == "interrupt":
            writes = [(INTERRUPT, [self.number]), (RESUME, self.number)]
        given = (branch.config, writes, task, path)
        saver.put_writes(*deepcopy(given))
        self.model.put_writes(*deepcopy(given))

    def sleep(self) -> None:
        archive_session(self.services, "s")

    def kill(self) -> None:
        """A worker that dies on the way to sleep, and another one that finds its lease over."""
        wanted = KILLS[self.number % len(KILLS)]

        def die(reached: Failpoint) -> None:
            if reached is wanted:
                raise Killed

        failpoints.arm(die)
        try:
            archive_session(self.services, "s")
        except Killed:
            self.services.sessions.close("s")
        finally:
            failpoints.arm()

    def copy(self, saver: AnySaver) -> None:
        """Copy the thread, let the copy sleep, and compare it."""
        expected = self.expected()
        if not expected:
            return
        target = f"copy-{next(COPIES)}"  # an id that was used before is free when the worker has erased it
        saver.copy_thread("s", target)
        archive_session(self.services, target)
        other = self.savers[self.number % len(self.savers)]
        assert seen(other.list({"configurable": {"thread_id": target}})) == expected
        other.delete_thread(target)

    def prune(self, saver: AnySaver) -> None:
        """Prune the thread, and forget in the model what pruning removes."""
        saver.prune(["s"])
        latest = {each.config["configurable"]["checkpoint_id"] for each in self.latest()}
        for checkpoints in self.model.storage["s"].values():
            for identity in [each for each in checkpoints if each not in latest]:
                del checkpoints[identity]
        self.branches = [
            each for each in self.branches if each.config["configurable"].get("checkpoint_id", "") in {"", *latest}
        ]

    def latest(self) -> list[CheckpointTuple]:
        found = (self.model.get_tuple(config(ns=ns)) for ns in NAMESPACES)
        return [each for each in found if each]

    def expected(self) -> list[Any]:
        return seen([*self.model.list({"configurable": {"thread_id": "s"}})])

    def check(self) -> None:
        """Every checkpoint of the thread is the same, listed and read alone."""
        expected = self.expected()
        for saver in self.savers:
            assert seen(saver.list({"configurable": {"thread_id": "s"}})) == expected
        saver = self.savers[self.number % len(self.savers)]
        single = [saver.get_tuple(config(ns=ns, checkpoint_id=each)) for ns, each, *_ in expected]
        assert seen(single) == expected


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


@pytest.fixture
def savers(client: redis.Redis, redis_server: RedisServer, services: Services) -> Iterator[list[AnySaver]]:
    """Savers of three processes: blocking, of asyncio, and one that remembers no values."""
    archive = SessionArchive(services.archive.url)
    with ExitStack() as stack:
        waiting = stack.enter_context(asyncio_saver(redis_server, archive=archive))
        yield [
            AnySaver(MemorystoreSaver(client, archive=archive)),
            waiting,
            AnySaver(MemorystoreSaver(client, archive=archive, cache_bytes=0)),
        ]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps)
def test_savers_show_what_the_savers_of_langgraph_show_whatever_sleeps_in_between(
    savers: list[AnySaver], services: Services, played: list[tuple[str, int, int, int]]
) -> None:
    savers[0].delete_thread("s")
    archive_session(services, "s")  # erases what the archive has
    thread = Played(savers, services)
    for step in played:
        thread.play(step)
    thread.check()
