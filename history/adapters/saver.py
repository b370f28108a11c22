"""MemorystoreSaver: LangGraph's checkpoints over a thread."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Container, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import INTERRUPT, RESUME

from torpor.history.adapters.checkpoints import draft, from_reply, to_record, to_tuple, to_writes
from torpor.history.adapters.known_values import KnownValues
from torpor.history.adapters.pruning import latest_only
from torpor.history.adapters.reading import ValueReader
from torpor.history.adapters.targets import Target
from torpor.history.adapters.two_ways import awaited_method, blocking_method, in_a_thread
from torpor.history.adapters.writing import write_value
from torpor.history.calls import KnownPlaces, WrittenRecord
from torpor.history.clients.blocking import iterate_sync
from torpor.history.clients.kinds import Client, kind_of
from torpor.history.conversation import Archive
from torpor.history.errors import ClientMismatch, InvalidArgument
from torpor.history.expiry import Expiry, check_seconds
from torpor.history.ids import DEFAULT_NAMESPACE, check_namespace, check_owner
from torpor.history.limits import MAX_MESSAGE_BYTES, MIB, check_max_message_bytes
from torpor.history.records.record import Name, Record
from torpor.history.records.thread import StoredCheckpoint
from torpor.history.thread import ThreadConversation

_CACHE_BYTES = 64 * MIB


class MemorystoreSaver(BaseCheckpointSaver[Any]):
    """A checkpointer of LangGraph whose threads are put to sleep, not destroyed, when they have been idle.

    A thread is a session, and what the worker does with sessions it does with threads. With an asyncio client only the
    methods whose names begin with `a` can be used; the others raise ClientMismatch. With a blocking client all can be
    used. Those whose names begin with `a` then work in a thread of the process.
    Source: https://docs.langchain.com/oss/python/langgraph/persistence
    """

    def __init__(
        self,
        client: Client,
        *,
        ttl: int | None = None,
        max_age: int | None = None,
        archive_retention: int | None = None,
        interrupted_ttl: int | None = None,
        owner: str | None = None,
        owner_field: str = "owner",
        assign_owner: bool = False,
        allow_reuse: bool = False,
        archive: Archive | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        cache_bytes: int = _CACHE_BYTES,
        namespace: str = DEFAULT_NAMESPACE,
        shards: int | None = None,
        serde: SerializerProtocol | None = None,
    ) -> None:
        """Arguments as for MemorystoreChatMessageHistory; the first I/O is that of the first use.

        `owner` is for all threads. A config's `configurable[owner_field]` comes before it. While a task waits for a
        person (an interrupt), the idle timeout is `interrupted_ttl` (whole seconds), until somebody reads or resumes.
        The saver remembers values of up to `cache_bytes` in the process, to send only what was appended to them.
        """
        super().__init__(serde=serde)
        self._asynchronous = kind_of(client).asynchronous
        self._client = client
        self._interrupted_idle = check_seconds(interrupted_ttl, "interrupted_ttl")
        self._owner = owner if owner is None else check_owner(owner)
        self._owner_field = owner_field
        self._assigns = assign_owner
        self._known = KnownValues(cache_bytes)
        self._cache_bytes = cache_bytes
        self._reader = ValueReader(self.serde, cache_bytes)
        self._threads = lru_cache(maxsize=1_000)(self._opened)
        self._options: dict[str, Any] = {
            "expiry": Expiry.of_seconds(ttl, max_age, archive_retention),
            "allow_reuse": allow_reuse,
            "archive": archive,
            "max_message_bytes": check_max_message_bytes(max_message_bytes),
            "namespace": check_namespace(namespace),
            "shards": shards,
        }

    def get_next_version(self, current: Any, channel: None) -> int | str:  # noqa: ARG002 - LangGraph's signature
        """A version above `current` that no other fork has: a counter, and 24 random bits below it.

        It is below 2^53 for half a billion supersteps, so that JavaScript can read it. A thread that was moved here
        from a saver whose versions are text goes on with text.
        """
        chance = random.getrandbits(24)
        if isinstance(current, str):
            return f"{int(current.partition('.')[0]) + 1:032}.{chance:016}"
        return ((int(current or 0) >> 24) + 1 << 24) | chance

    # Each operation is written once, then gets its two names

    async def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, in one round trip, or three for a first write with an archive; does not wake the thread.

        Raises KindMismatch, OwnerMismatch, SessionPurged, MessageTooLarge, and InvalidArgument for a config without a
        thread.
        """
        target = self._target(config)
        name = Name(target.ns or "", checkpoint["id"])
        light = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        rest = write_value(self.serde, [light, get_checkpoint_metadata(config, metadata)])
        state, length, known = self._known.of(target.session_id, name.ns)
        while True:
            made = draft(self.serde, checkpoint, new_versions, known)
            record = to_record(name, target.id, rest, made)
            written = await self._write(target, record, state=state if made.refers else "", length=length)
            if written:
                break
            self._known.forget(target.session_id)
            known = {}
        if written.position is not None:
            at = written.position
            self._known.add(target.session_id, name.ns, written.state, at + 1, made.known_at(at))
        return target.config(name)

    put = blocking_method(_put)
    aput = awaited_method(_put)

    async def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written after a checkpoint; costs as much as `put`, and raises its errors."""
        target = self._target(config)
        if target.id is None:
            raise InvalidArgument("the config of writes names no checkpoint: configurable['checkpoint_id'] is missing")
        record = to_writes(self.serde, Name(target.ns or "", target.id), writes, task_id, task_path)
        channels = {channel for channel, _ in writes}
        waits = True if INTERRUPT in channels else False if RESUME in channels else None
        length = self._known.length(target.session_id)
        written = await self._write(target, record, length=length, interrupts=waits)
        if written and written.position is not None:
            self._known.add(target.session_id, record.name.ns, written.state, written.position + 1, {})

    put_writes = blocking_method(_put_writes)
    aput_writes = awaited_method(_put_writes)

    async def _get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that a config names, or the latest one of its namespace; None if there is none.

        One round trip, unless the thread sleeps: with an `archive` it is woken. Counts as activity. Raises
        KindMismatch, the archive's errors, and MessageCorrupt for a checkpoint that `serde` can't read.
        """
        target = self._target(config)
        ns = target.ns or ""
        state, length, before = self._known.of(target.session_id, ns)
        asked = list(before.values())
        places = KnownPlaces(state, length, [each.place for each in asked])
        reply = await self._thread(target).checkpoint(ns, target.id, places)
        found = from_reply(reply, asked)
        if found is None:
            return None
        stored, known = found
        read = self._tuple(target, stored, before)
        versions = read.checkpoint["channel_versions"]
        versioned = {channel: replace(value, version=versions.get(channel)) for channel, value in known.items()}
        self._known.add(target.session_id, ns, reply.state, reply.length, versioned)
        return read

    get_tuple = blocking_method(_get_tuple)
    aget_tuple = awaited_method(_get_tuple)

    async def _list(
        self,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None,
        limit: int | None,
    ) -> AsyncIterator[CheckpointTuple]:
        if config is None:
            raise NotImplementedError("there is no list of all threads: name one in configurable['thread_id']")
        target = self._target(config)
        end = target.end(before)
        thread = await self._thread(target).all()
        for name in thread.names():
            if limit is not None and limit <= 0:
                return
            if target.ns not in (None, name.ns) or target.id not in (None, name.id) or (end and name.id >= end):
                continue
            stored = thread.get(name)
            found = self._tuple(target, stored) if stored else None
            if found and all(found.metadata.get(key) == value for key, value in (filter or {}).items()):
                limit = None if limit is None else limit - 1
                yield found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """The checkpoints of a thread, newest first in each namespace; without a namespace in the config, of all.

        Reads the complete thread, in pages of 1 MiB, and wakes it as `get_tuple` does. `before` is exclusive. Raises
        InvalidArgument if it is of another thread, and NotImplementedError for a config of None.
        """
        self._check_blocking()
        return iterate_sync(self._list(config, filter, before, limit))

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`, for asyncio."""
        if self._asynchronous:
            return self._list(config, filter, before, limit)
        return in_a_thread(self.list(config, filter=filter, before=before, limit=limit))

    async def _delete_thread(self, thread_id: str) -> None:
        """Empty a thread at once, for good; the worker erases its archived records. Raises SessionHeld."""
        await self._thread(Target(thread_id)).clear()
        self._known.forget(str(thread_id))

    delete_thread = blocking_method(_delete_thread)
    adelete_thread = awaited_method(_delete_thread)

    async def _copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all records of a thread to one that has none, in one atomic turn; wakes the first.

        Raises SessionNotFound if there is nothing to copy, and SessionExists if the second thread is there.
        """
        source, target = (self._thread(Target(each)) for each in (source_thread_id, target_thread_id))
        await source.copy_to(target)

    copy_thread = blocking_method(_copy_thread)
    acopy_thread = awaited_method(_copy_thread)

    async def _prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the latest checkpoint of each namespace of these threads, or delete all ("delete"); wakes the threads.

        Checkpoints on which a DeltaChannel of a kept one depends stay. The worker erases the rest from the archive.
        Raises InvalidArgument for another strategy, SessionHeld, and SessionIncomplete if a part may be in the archive
        alone and the saver has no `archive`.
        """
        if strategy not in ("keep_latest", "delete"):
            raise InvalidArgument(f"the strategy is 'keep_latest' or 'delete', not {strategy!r}")
        for thread_id in thread_ids:
            if strategy == "delete":
                await self._delete_thread(thread_id)
                continue
            await self._thread(Target(thread_id)).rewrite(
                lambda thread: latest_only(thread, lambda rest: self.serde.loads_typed(rest)[1])
            )
            self._known.forget(str(thread_id))

    prune = blocking_method(_prune)
    aprune = awaited_method(_prune)

    async def _delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Not implemented: nothing leads from a run to its threads, so all threads would have to be read."""
        raise NotImplementedError(
            f"nothing records the threads of {len(run_ids)} runs, and looking through all threads, awake and asleep, "
            "would read the whole archive: use delete_thread or prune"
        )

    delete_for_runs = blocking_method(_delete_for_runs)
    adelete_for_runs = awaited_method(_delete_for_runs)

    # The rest

    def _target(self, config: RunnableConfig) -> Target:
        return Target.of(config, self._owner_field)

    def _thread(self, target: Target) -> ThreadConversation:
        return self._threads(target.session_id, target.owner or self._owner)

    def _opened(self, session_id: str, owner: str | None) -> ThreadConversation:
        assigns = self._assigns and owner is not None
        return ThreadConversation(self._client, session_id, owner=owner, assign_owner=assigns, **self._options)

    async def _write(self, target: Target, record: Record, **given: Any) -> WrittenRecord | None:
        return await self._thread(target).write(record, interrupted_idle=self._interrupted_idle, **given)

    def _tuple(self, target: Target, stored: StoredCheckpoint, again: Container[str] = ()) -> CheckpointTuple:
        if self._reader.serde is not self.serde:  # LangGraph copies a saver, and gives it another allow-list
            self._reader = ValueReader(self.serde, self._cache_bytes)
        return to_tuple(self.serde, self._reader, target, stored, again)

    def _check_blocking(self) -> None:
        if self._asynchronous:
            raise ClientMismatch("this saver has an asyncio client: await aget_tuple, aput, graph.ainvoke, ...")
