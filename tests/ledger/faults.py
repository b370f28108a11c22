"""The faults of a round, at random moments."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from ledger.deployment import Parts, Program
from support.redis_proxy import Fault, no_fault
from support.storage_proxy import Exchange, Reply, answered, answered_after, reset_after, reset_before


@dataclass
class Tally:
    """The figures of the last line."""

    acknowledged: int = 0
    faults: int = 0
    kills: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


class Faults:
    """Causes the faults of a round, at random."""

    def __init__(self, seed: str, tally: Tally, parts: Parts, programs: Sequence[Program]) -> None:
        self.kinds: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._tally = tally
        self._broker = parts.broker
        self._broker_keys = f"{parts.deployment.direct.namespace}:celery:*"
        self._proxy = parts.proxy
        self._storage = parts.storage
        *self._workers, self._beat = programs
        # How often in a second.
        self._rates: list[tuple[float, Callable[[], None]]] = [
            (0.30, self._kill_child),
            (0.06, self._kill_worker),
            (0.06, self._kill_head),
            (0.05, self._kill_beat),
            (0.10, self._lose_messages),
            (0.15, self._cut_broker),
            (0.10, self._cut_all),
            (0.40, self._fail_storage),
        ]
        parts.proxy.plan = self._fail_command

    def step(self, seconds: float) -> None:
        """Cause the faults that chance brings in the next `seconds`."""
        for rate, act in self._rates:
            if self._dice.random() < rate * seconds:
                act()
        self._proxy.commands.clear()

    def end(self) -> None:
        self._proxy.plan = no_fault
        if self._storage:
            self._storage.heal()

    def _count(self, kind: str, *, kill: bool = False) -> None:
        self.kinds[kind] += 1
        if kill:
            self._tally.kills += 1
        else:
            self._tally.faults += 1

    def _kill_child(self) -> None:
        if self._dice.choice(self._workers).kill_child(self._dice):
            self._count("child killed", kill=True)

    def _kill_worker(self) -> None:
        worker = self._dice.choice(self._workers)
        if worker.running:
            worker.kill()
            self._count("worker killed", kill=True)

    def _kill_head(self) -> None:
        worker = self._dice.choice(self._workers)
        if worker.running:
            worker.kill_head(self._dice.uniform(0.2, 2))
            self._count("worker killed without its children", kill=True)

    def _kill_beat(self) -> None:
        if self._beat.running:
            self._beat.kill()
            self._count("beat killed", kill=True)

    def _lose_messages(self) -> None:
        keys = list(self._broker.scan_iter(self._broker_keys, 1000))
        if keys:
            self._broker.delete(*keys)
            self._count("broker emptied")

    def _cut_broker(self) -> None:
        clients = [each for each in self._broker.client_list() if each["db"] == "1" and each["cmd"] != "client|list"]
        for each in self._dice.sample(clients, len(clients) // 2):
            self._broker.client_kill_filter(_id=each["id"])
        if clients:
            self._count("broker's connections cut")

    def _cut_all(self) -> None:
        self._proxy.cut()
        self._count("all connections cut")

    def _fail_command(self, command: str) -> Fault | None:
        # The proxy's threads call it, one at a time. A retry could double an append.
        if self._dice.random() > (0.01 if command == "append" else 0.0015):
            return None
        fault = self._dice.choice([Fault.CUT_BEFORE, Fault.LOSE_REPLY, Fault.LOSE_REPLY, Fault.HALF_REPLY])
        self._count(f"command: {fault}")
        return fault

    def _fail_storage(self) -> None:
        if not self._storage:
            return
        statuses = [408, 429, 500, 502, 503, 504]
        fault = self._dice.choice(
            [answered(self._dice.choice(statuses)), answered_after(503), reset_before, reset_after]
        )

        def counted(exchange: Exchange) -> Reply:
            self._count("storage fault")
            return fault(exchange)

        self._storage.fail(counted, times=self._dice.randint(1, 4))
