"""Finds sessions whose index entry or metadata was lost, and repairs them."""

from __future__ import annotations

from collections.abc import Iterator

from torpor.history import calls
from torpor.history.clients.blocking import run_sync
from torpor.history.errors import RedisRefused
from torpor.history.formats.layout import Layout, Storage, encode_text
from torpor.history.keys import adopted_key, adopting_pattern, own_keys, single_keys
from torpor.history.limits import MAX_MESSAGE_BYTES
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.operation import Operation
from torpor.history.store.sources import source_of

# How much of a list is read to tell its format.
_LOOK_BYTES = 4096


class Repair(BlockingRunner):
    """Finds and repairs states that no operation leaves behind."""

    def keys_of_other_types(self) -> list[str]:
        """Say which keys of the deployment and of its shards, beside the indexes, are of another type; one pipeline."""
        keyspace = self.deployment.keyspace
        wanted = single_keys(self._namespace)
        for shard in range(keyspace.shards):
            wanted |= keyspace.shard(shard).beside_the_indexes
        with self._kind.translated:
            pipeline = self._client.pipeline(transaction=False)
            for key in wanted:
                pipeline.type(key)
            found = [kind if isinstance(kind, str) else kind.decode() for kind in pipeline.execute()]
        return [
            f"{key.decode()} is a {kind}, and Torpor's is a {type_}"
            for (key, type_), kind in zip(wanted.items(), found, strict=True)
            if kind not in ("none", type_)
        ]

    def stored_sessions(self) -> Iterator[str]:
        """Walk the ids of all sessions that have keys, indexed or not; an id may come twice.

        Walks the key space (SCAN): for repairs.
        """
        keyspace = self.deployment.keyspace
        for key in self._scan(keyspace.pattern):
            session = keyspace.session_of(key)
            if session is not None:
                yield session

    def adoptable_keys(self, layout: Layout, match: str) -> Iterator[bytes]:
        """Walk other libraries' keys whose session ids match a glob-style pattern; a key may come twice.

        Unfinished adoptions come first. Walks the key space twice (SCAN).
        """
        pattern = layout.pattern(match)
        for name in self._scan(adopting_pattern(self._namespace, pattern)):
            yield adopted_key(name)
        ours = own_keys(self._namespace)
        kind = None if layout.storage is Storage.LIST else layout.storage
        stored = self._scan(layout.stored_pattern(match), kind)
        named = (layout.session_key(key, match) for key in stored if not ours.match(key))
        yield from (key for key in named if key is not None)

    def stored(self, pattern: str, storage: Storage) -> Iterator[bytes]:
        """Walk the keys of a type, other than Torpor's, that match a glob-style pattern; a key may come twice."""
        ours = own_keys(self._namespace)
        yield from (key for key in self._scan(encode_text(pattern, "pattern"), storage) if not ours.match(key))

    def seems_of(self, session_id: str, layout: Layout) -> bool | None:
        """True if the oldest messages of another library's session show that they are of this format; None if unsure.

        Reads one small page. Raises NotAdoptable.
        """
        source = source_of(self, session_id, layout, MAX_MESSAGE_BYTES)
        found = run_sync(source.peek(0, _LOOK_BYTES))
        if not (found and found.messages):
            return False
        if all(map(layout.knows, found.messages)):
            return True
        return None if all(layout.take(each) for each in found.messages) else False

    def _scan(self, pattern: bytes, kind: str | None = None) -> Iterator[bytes]:
        try:
            with self._kind.translated:
                for key in self._client.scan_iter(pattern, count=1000, _type=kind):
                    yield key if isinstance(key, bytes) else key.encode()
        except RedisRefused as error:
            if "unknown type name" not in str(error):  # Valkey's, which has no modules' types
                raise

    reindex = Operation(calls.reindex)
    rebuild_metadata = Operation(calls.rebuild_metadata)
    rejoin = Operation(calls.rejoin)
