"""No interleaving of adopters, the other libraries, the application and the worker loses or doubles a message.

Adopters are the product's own function in threads that stop before each call to Redis. A seeded walk decides who goes
on, which call fails, loses its reply or arrives a second time, and who is killed.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from typing import TypeVar

import pytest
import redis

from support.foreign import LAYOUTS
from support.keyspace import raw
from support.observed import ObservedStore
from support.stepped import Fault, MemoryArchive, Task
from support.transcripts import read_transcript
from torpor.history.protocol import SessionNotFound, SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

T = TypeVar("T")

WALKS = int(os.environ.get("ADOPTION_WALKS", "200"))
STEPS = 60
SETTINGS = Settings(archive_url="file:///nowhere", lease_seconds=60, concurrency=1)
FORMATS = ["memorystore", "memorystore", "memorystore", "community"]
FAULTS = [None, None, Fault.REFUSED, Fault.REPLY_LOST, Fault.SENT_TWICE]
# Races are won and lost at these calls; an adopter stops before one, after one, or at its end.
CALLS = ["begin_adoption", "take_list", "adopt", "delete_taken", "end_adoption", "peek_list", ""]
ADOPTERS = 3


class Walk:
    """One walk. Its model has the messages that each writer has written: two other libraries, and the application."""

    def __init__(self, client: redis.Redis, seed: int) -> None:
        client.flushall()
        self.client = client
        self.dice = random.Random(seed)
        self.said: dict[str, list[bytes]] = {name: [] for name in (*LAYOUTS, "torpor")}
        self.numbers = itertools.count()
        self.tasks: list[Task] = []
        self.services = Services(SETTINGS, SessionStore(client, shards=1), MemoryArchive())
        self.log: list[str] = []

    def walk(self) -> None:
        acts = self.another_library_adds, self.the_application_adds, self.it_goes_to_sleep, self.somebody_adopts
        adopters: tuple[Callable[[], None], ...] = (self.an_adopter_goes_on, self.an_adopter_is_killed)
        for _ in range(STEPS):
            if self.tasks and self.dice.random() < 0.75:
                self.dice.choices(adopters, [15, 1])[0]()
            else:
                self.dice.choices(acts, [5, 1, 1, 10])[0]()

    def another_library_adds(self) -> None:
        name = self.dice.choice(FORMATS)
        push = "LPUSH" if LAYOUTS[name].newest_first else "RPUSH"
        count = self.dice.choice([1, 2, 2, 2, 5])
        for _ in range(count):
            raw(self.client, push, LAYOUTS[name].key("s"), self.message(name))
        self.log.append(f"{name} adds {count}")

    def the_application_adds(self) -> None:
        self.services.sessions.append("s", [self.message("torpor")])
        self.log.append("the application adds 1")

    def it_goes_to_sleep(self) -> None:
        archive_session(self.services, "s")
        self.log.append("the session goes to sleep")

    def somebody_adopts(self) -> None:
        if len(self.tasks) == ADOPTERS:
            return
        name = self.dice.choice(FORMATS)
        task = Task(f"adopter {next(self.numbers)}", "s")
        sessions = ObservedStore(self.client, task, shards=1)
        task.start(lambda: sessions.adopt("s", LAYOUTS[name]))
        self.tasks.append(task)
        self.log.append(f"{task.name} begins with {name}")

    def an_adopter_goes_on(self) -> None:
        task, until = self.dice.choice(self.tasks), self.dice.choice(CALLS)
        while not task.done and task.waits_for != until:
            self.step(task, None)
        if not task.done and self.dice.random() < 0.5:
            self.step(task, self.dice.choice(FAULTS))

    def an_adopter_is_killed(self) -> None:
        task = self.dice.choice(self.tasks)
        task.kill()
        self.tasks.remove(task)
        self.log.append(f"{task.name} is killed before {task.waits_for}")

    def step(self, task: Task, fault: Fault | None) -> None:
        call = task.waits_for
        task.step(fault)
        self.log.append(f"{task.name}: {call}{f' ({fault})' if fault else ''}")
        if task.done:
            self.tasks.remove(task)
            assert task.error is None or task.faulted, task.error
            self.log.append(f"{task.name} ends: {task.error or task.result}")

    def message(self, by: str) -> bytes:
        said = b'{"type":"human","data":{"type":"human","content":"%b %d"}}' % (by.encode(), next(self.numbers))
        self.said[by].append(said)
        return said

    def finish(self) -> None:
        """One more adoption finishes the killed ones."""
        for task in self.tasks:
            task.kill()
        for layout in LAYOUTS.values():
            self.services.sessions.adopt("s", layout)
        for adoption in self.services.sessions.adoptions():
            self.services.sessions.finish_adoption(adoption)
        assert not raw(self.client, "KEYS", "torpor:adopting:*")
        assert not self.services.sessions.adoptions()
        self.check()
        if any(self.said.values()):
            archive_session(self.services, "s")
            self.check()
            restore_session(self.services, "s")
            self.check()

    def check(self) -> None:
        try:
            found = read_transcript(self.services, "s")
        except SessionNotFound:
            found = []
        for name, said in self.said.items():
            theirs = [message for message in found if b'"%b ' % name.encode() in message]
            assert theirs == said, name


def test_no_interleaving_of_adopters_loses_doubles_or_reorders_a_message(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.history.store.adoption.PAGE_BYTES", 100)  # two messages or three
    for seed in range(WALKS):
        walk = Walk(client, seed)
        try:
            walk.walk()
            walk.finish()
        except AssertionError as error:
            pytest.fail("\n".join([f"walk {seed}: {error}", *walk.log]), pytrace=False)
