"""Moving a slot of a Cluster from node to node, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from support.clusters import ClusterServer
from support.keyspace import raw
from support.servers import RedisServer


def ask(node: RedisServer, command: str, *arguments: bytes | str | int) -> Any:
    """A node's reply, over a connection that is closed afterwards."""
    with node.client() as client:
        return raw(client, command, *arguments)


@dataclass
class Move:
    """The move of a slot from its node to another one."""

    slot: int
    source: RedisServer
    target: RedisServer
    nodes: Sequence[RedisServer]

    def begin(self) -> None:
        ask(self.target, "CLUSTER", "SETSLOT", self.slot, "IMPORTING", node_id(self.source))
        ask(self.source, "CLUSTER", "SETSLOT", self.slot, "MIGRATING", node_id(self.target))

    def keys(self, count: int = 10) -> list[bytes]:
        found: list[bytes] = ask(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, count)
        return found

    def send(self, *keys: bytes) -> None:
        ask(self.source, "MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)

    def send_all(self) -> None:
        while keys := self.keys():
            self.send(*keys)

    def end(self) -> None:
        for node in (self.target, self.source, *self.nodes):
            ask(node, "CLUSTER", "SETSLOT", self.slot, "NODE", node_id(self.target))


def node_id(node: RedisServer) -> bytes:
    found: bytes = ask(node, "CLUSTER", "MYID")
    return found


def move_of(cluster: ClusterServer, slot: int) -> Move:
    """The move of the slot to the next node."""
    ids = [node_id(node) for node in cluster.nodes]
    for first, last, owner, *_ in ask(cluster.nodes[0], "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            at = ids.index(owner[2])
            return Move(slot, cluster.nodes[at], cluster.nodes[(at + 1) % len(ids)], cluster.nodes)
    raise AssertionError(slot)


@contextmanager
def moving(cluster: ClusterServer, slot: int) -> Iterator[Move]:
    """Have a slot on the move during the block; afterwards it is on its new node."""
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
