"""What a config of LangGraph names: a thread, a namespace, a checkpoint and perhaps an owner."""

from __future__ import annotations

from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import get_checkpoint_id

from torpor.history.errors import InvalidArgument
from torpor.history.ids import check_owner
from torpor.history.records.record import Name


class Target(NamedTuple):
    """The thread, namespace and checkpoint that a config names, and the owner's entry if it has one."""

    thread_id: Any
    ns: str | None = None
    id: str | None = None
    owner_entry: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, config: RunnableConfig, owner_field: str) -> Target:
        """What a config names; raises InvalidArgument if it names no thread, and InvalidOwner."""
        named = config.get("configurable") or {}
        thread_id, owner = named.get("thread_id"), named.get(owner_field)
        if thread_id is None:
            raise InvalidArgument("the config names no thread: configurable['thread_id'] is missing")
        entry = () if owner is None else ((owner_field, check_owner(owner)),)
        return cls(thread_id, named.get("checkpoint_ns"), get_checkpoint_id(config) or None, entry)

    @property
    def session_id(self) -> str:
        """The id of the thread's session."""
        return str(self.thread_id)

    @property
    def owner(self) -> str | None:
        """The owner that the config names."""
        return self.owner_entry[0][1] if self.owner_entry else None

    def config(self, name: Name) -> RunnableConfig:
        """The config of a checkpoint of this thread."""
        named = {"thread_id": self.thread_id, "checkpoint_ns": name.ns, "checkpoint_id": name.id}
        return {"configurable": {**named, **dict(self.owner_entry)}}

    def end(self, before: RunnableConfig | None) -> str | None:
        """The checkpoint before which a list of this thread ends; raises InvalidArgument for another thread's."""
        if before is None:
            return None
        named = before.get("configurable") or {}
        if named.get("thread_id", self.thread_id) != self.thread_id:
            raise InvalidArgument(f"`before` is of another thread than {self.session_id!r}")
        return get_checkpoint_id(before)
