"""The faults of a round, at random moments: one by one, and in pairs."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial

from ledger.deployment import Parts, Program
from ledger.storage_faults import BucketFaults, FolderFaults, StorageFaults, Struck, follow_with_nothing
from support.redis_proxy import Fault, no_fault

# The commands of a worker at a session: the others are an application's too.
_OF_WORKERS = {"claim", "snapshot", "read", "renew", "commit", "release", "note_erased"}
_PAIRS = [
    ("storage", "storage"),
    ("storage", "kill"),
    ("storage", "command"),
    ("command", "storage"),
    ("kill", "storage"),
]


@dataclass
class Tally:
    """The figures of the last line."""

    acknowledged: int = 0
    faults: int = 0
    kills: int = 0
    pairs: int = 0
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
        self._counting = threading.Lock()
        self._broker = parts.broker
        self._broker_keys = f"{parts.deployment.direct.namespace}:celery:*"
        self._proxy = parts.proxy
        *self._workers, self._beat = programs
        self._storage: StorageFaults = (
            BucketFaults(parts.storage, self._workers, self._dice, self._count)
            if parts.storage
            else FolderFaults(parts.folder, self._workers, self._dice, self._count)
        )
        self._frozen: list[tuple[float, int]] = []
        self._next_command: list[Struck] = []  # what follows a fault of the next command of a worker
        # How often in a second.
        self._rates: list[tuple[float, Callable[[], None]]] = [
            (0.25, partial(self._kill, follow_with_nothing, None)),
            (0.06, self._kill_worker),
            (0.06, self._kill_head),
            (0.05, self._kill_beat),
            (0.10, self._freeze),
            (0.10, self._lose_messages),
            (0.15, self._cut_broker),
            (0.10, self._cut_all),
            (0.30, partial(self._storage.strike, follow_with_nothing)),
            (1.20, self._pair),
        ]
        parts.proxy.plan = self._fail_command

    def step(self, seconds: float) -> None:
        """Cause the faults that chance brings in the next `seconds`, and end those whose time is over."""
        self._storage.step()
        self._thaw(time.monotonic())
        for rate, act in self._rates:
            if self._dice.random() < rate * seconds:
                act()
        self._proxy.commands.clear()

    def end(self) -> None:
        self._proxy.plan = no_fault
        self._storage.heal()
        self._thaw(float("inf"))

    def _count(self, kind: str, *, kill: bool = False) -> None:
        with self._counting:
            self.kinds[kind] += 1
            if kill:
                self._tally.kills += 1
            else:
                self._tally.faults += 1

    # One by one

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

    def _freeze(self) -> None:
        """Stop a worker's process at whatever it does, perhaps for longer than its lease, and let it go on."""
        if pid := self._some_child():
            os.kill(pid, signal.SIGSTOP)
            self._frozen.append((time.monotonic() + self._dice.uniform(0.5, 4), pid))
            self._count("worker frozen")

    def _thaw(self, moment: float) -> None:
        for _, pid in (each for each in self._frozen if each[0] <= moment):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = [each for each in self._frozen if each[0] > moment]

    def _fail_command(self, command: str) -> Fault | None:
        # The proxy's threads call it, one at a time. A retry could double an append.
        if command in _OF_WORKERS and self._next_command:
            struck = self._next_command.pop()
            threading.Thread(target=struck, args=[None], daemon=True).start()
        elif self._dice.random() > (0.01 if command == "append" else 0.0015):
            return None
        fault = self._dice.choice([Fault.CUT_BEFORE, Fault.LOSE_REPLY, Fault.LOSE_REPLY, Fault.HALF_REPLY])
        self._count(f"command: {fault}")
        return fault

    # In pairs: each calls `struck` when its fault has happened

    def _pair(self) -> None:
        """Cause a fault and, as soon as it has happened, another one, to the same process if it is known."""
        acts = {"storage": self._storage_fault, "command": self._command_fault, "kill": self._kill}
        first, second = self._dice.choice(_PAIRS)

        def both(_: int | None) -> None:
            with self._counting:
                self.kinds[f"pair: {first}, then {second}"] += 1
                self._tally.pairs += 1

        acts[first](lambda pid: acts[second](both, pid), None)

    def _storage_fault(self, struck: Struck, _: int | None) -> None:
        self._storage.strike(struck)

    def _command_fault(self, struck: Struck, _: int | None) -> None:
        self._next_command.append(struck)

    def _kill(self, struck: Struck, pid: int | None) -> None:
        if pid := pid or self._some_child():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._count("child killed", kill=True)
                struck(pid)

    def _some_child(self) -> int | None:
        _, *children = self._dice.choice(self._workers).processes or [0]
        return self._dice.choice(children) if children else None
