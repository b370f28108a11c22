"""Moving a slot of a Cluster from node to node, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from conftest import ClusterServer, RedisServer, raw


@dataclass
class Move:
    """A slot that moves from the node that has it to another one."""

    slot: int
    source: RedisServer
    target: RedisServer
    nodes: Sequence[RedisServer]

    def begin(self) -> None:
        raw(self.target.client(), "CLUSTER", "SETSLOT", self.slot, "IMPORTING", node_id(self.source))
        raw(self.source.client(), "CLUSTER", "SETSLOT", self.slot, "MIGRATING", node_id(self.target))

    def keys(self, count: int = 10) -> list[bytes]:
        found: list[bytes] = raw(self.source.client(), "CLUSTER", "GETKEYSINSLOT", self.slot, count)
        return found

    def send(self, *keys: bytes) -> None:
        raw(self.source.client(), "MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)

    def send_all(self) -> None:
        while keys := self.keys():
            self.send(*keys)

    def end(self) -> None:
        for node in (self.target, self.source, *self.nodes):
            raw(node.client(), "CLUSTER", "SETSLOT", self.slot, "NODE", node_id(self.target))


def node_id(node: RedisServer) -> bytes:
    found: bytes = raw(node.client(), "CLUSTER", "MYID")
    return found


def move_of(cluster: ClusterServer, slot: int) -> Move:
    """How the slot goes to the next node."""
    ids = [node_id(node) for node in cluster.nodes]
    for first, last, owner, *_ in raw(cluster.nodes[0].client(), "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            at = ids.index(owner[2])
            return Move(slot, cluster.nodes[at], cluster.nodes[(at + 1) % len(ids)], cluster.nodes)
    raise AssertionError(slot)


@contextmanager
def moving(cluster: ClusterServer, slot: int) -> Iterator[Move]:
    """A slot that is on the move; at the end it is at its new place."""
    move = move_of(cluster, slot)
    move.begin()
    try:
        yield move
    finally:
        move.send_all()
        move.end()


def move_away(cluster: ClusterServer, slot: int) -> None:
    with moving(cluster, slot):
        pass
