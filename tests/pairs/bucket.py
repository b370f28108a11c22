"""The way to a bucket: each request of Google's client to the emulator is a step.

Not among the faults, since they can't be: Cloud Storage lists every object that exists, and answers 404 and 412 only
if that is so (https://cloud.google.com/storage/docs/consistency). TLS protects descriptions on their way down, and a
request that is lost once is sent again (tests/faults/storage/test_each_request.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pytest

from pairs.attempt import FAILPOINT, Attempt, Fault
from support import storage_proxy
from support.storage_proxy import (
    Exchange,
    Reply,
    StorageProxy,
    altered,
    answered,
    corrupted_down,
    corrupted_up,
    cut_down,
    reset_after,
    reset_before,
)
from torpor.worker.archive.stores import ArchiveStore, objects
from torpor.worker.archive.stores.gcs import GcsStore

UPLOAD, PATCH, DELETE = "upload", "patch", "delete"
LIST, DESCRIBE, READ = "list", "describe", "read"
_CHANGES = {UPLOAD, PATCH, DELETE}
_ALL = {*_CHANGES, LIST, DESCRIBE, READ}
_LANES = 6


@dataclass(frozen=True)
class Step:
    """A request on its way, of the worker of an attempt."""

    attempt: Attempt
    exchange: Exchange


def _on_the_way(fault: storage_proxy.Fault) -> Callable[[Step], Reply]:
    return lambda step: fault(step.exchange)


def _misdescribed(described: dict[str, Any]) -> None:
    """Another session and another owner."""
    for name in {"session", "owner"} & set(described.get("metadata", ())):
        described["metadata"][name] += "?"


def _held_back(step: Step) -> Reply:
    step.attempt.wait_to_go()
    return step.exchange.forward()


def _again(step: Step) -> Reply:
    step.attempt.again.append(step.exchange.forward)
    return step.exchange.reset()


def _late(step: Step) -> Reply:
    step.attempt.deferred.append(step.exchange.forward)
    return step.exchange.reset()


FAULTS = [
    Fault("refused", _ALL, _on_the_way(answered(503, Retry_After="3600"))),
    Fault("refused from there on", _ALL, _on_the_way(answered(503)), lasting=True),
    Fault("forbidden", _ALL, _on_the_way(answered(403))),
    Fault("called wrong", {UPLOAD, PATCH}, _on_the_way(answered(400))),
    Fault("lost from there on", _ALL, _on_the_way(reset_before), lasting=True),
    Fault("done, but no reply", _CHANGES, _on_the_way(reset_after)),
    Fault("done, but no reply from there on", _CHANGES, _on_the_way(reset_after), lasting=True),
    Fault("reply cut from there on", {LIST, DESCRIBE, READ}, _on_the_way(cut_down), lasting=True),
    Fault("description altered", {UPLOAD, PATCH}, _on_the_way(altered(_misdescribed))),
    Fault("content altered", {UPLOAD}, _on_the_way(corrupted_up)),
    Fault("content altered on the way down", {READ}, _on_the_way(corrupted_down)),
    Fault("held back", _ALL, _held_back, holds=True),
    Fault("arrives after its next try", {UPLOAD}, _again),
    Fault("arrives after the next worker's", _CHANGES, _late),
    Fault("worker killed", _ALL | {FAILPOINT}, _on_the_way(reset_before), kills=True),
    Fault("done, and worker killed", _CHANGES, _on_the_way(reset_after), kills=True),
]


@dataclass(frozen=True)
class BucketWay:
    """The way to a bucket. Each worker has a lane, which is a proxy of its own before the same store."""

    lanes: Iterator[tuple[StorageProxy, ArchiveStore]]
    faults: ClassVar[Sequence[Fault]] = FAULTS

    def store(self, attempt: Attempt) -> ArchiveStore:
        """The bucket as the attempt's worker sees it."""
        proxy, store = next(self.lanes)
        proxy.fail(partial(_meet, attempt))
        return store


@contextmanager
def bucket_way(proxy: StorageProxy, bucket: str, patch: pytest.MonkeyPatch) -> Iterator[BucketWay]:
    """The way to a bucket that has a healthy proxy already, with clients that give up within 20 milliseconds."""
    impatient = objects._RETRY.with_delay(initial=0.001, maximum=0.01).with_timeout(0.02)
    patch.setattr(objects, "_RETRY", impatient)
    with ExitStack() as stack:
        lanes = []
        for _ in range(_LANES):
            lane = stack.enter_context(StorageProxy(proxy.store).running())
            lane.rules = proxy.rules
            with patch.context() as here:
                here.setenv("STORAGE_EMULATOR_HOST", lane.url)
                store = GcsStore(bucket, "chats", threads=4)
                store.check()  # the client knows its server from now on
            lanes.append((lane, store))
        yield BucketWay(itertools.cycle(lanes))


def _meet(attempt: Attempt, exchange: Exchange) -> Reply:
    if attempt.dead:
        return exchange.reset()
    fault = attempt.meet(exchange.kind)
    reply: Reply = fault.act(Step(attempt, exchange)) if fault else exchange.forward()
    return reply
