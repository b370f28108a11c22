"""A runner with a blocking client, which also sends many calls in one pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from torpor.history.calls import Call, Deployment
from torpor.history.clients.blocking import run_sync
from torpor.history.compression import Compression
from torpor.history.errors import InvalidArgument, RedisUnavailable, TorporError, translate
from torpor.history.ids import DEFAULT_NAMESPACE
from torpor.history.policy import Policies
from torpor.history.scripts import all_scripts
from torpor.history.store.runner import Runner
from torpor.history.store.sending import decoded, naming_key

T = TypeVar("T")


class BlockingRunner(Runner):
    """A runner with a blocking client; base of the classes with the operations that only the worker needs."""

    def __init__(
        self, client: Any, *, namespace: str = DEFAULT_NAMESPACE, shards: int | None = None, resends: bool = True
    ) -> None:
        """As Runner; raises InvalidArgument for an asyncio client."""
        super().__init__(client, namespace=namespace, shards=shards, resends=resends)
        if self.asynchronous:
            raise InvalidArgument(f"{type(client).__module__} is an asyncio client; this store needs a blocking one")

    @property
    def client(self) -> Any:
        """The client that the store was given."""
        return self._client

    @property
    def deployment(self) -> Deployment:
        """The deployment; asks Redis once, and records nothing."""
        return self._known() or run_sync(self.deployed())

    @property
    def _recorded(self) -> Deployment:
        return self._known() or run_sync(self.deployed(record=True))

    def configure(
        self,
        *,
        idle: timedelta,
        max_age: timedelta | None,
        retention: timedelta | None = None,
        policies: Policies = Policies(),  # noqa: B008 - frozen
        require_owner: bool = False,
        compression: Compression = Compression.NONE,
    ) -> Deployment:
        """Record the default expiry, the policies, whether each session must have an owner, and how to write messages.

        Applications see them when they next start.
        """
        wanted = self._configured(
            record=True,
            idle=idle,
            max_age=max_age,
            retention=retention,
            policies=policies,
            require_owner=require_owner,
            compression=compression,
        )
        return self._remembered(run_sync(wanted))

    def run(self, call: Call[T]) -> T:
        """Run one call."""
        return run_sync(self.perform(call))

    def run_many(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        """Run independent calls in one pipeline; an error stands in its call's place.

        Calls whose replies were lost are sent again, as by `perform`.
        """
        if not many:
            return []
        repeatable = all(call.repeatable for call in many)
        outcomes = run_sync(self._persistently(partial(self._pipelined, many), repeatable=repeatable))
        return self._with_lost_ones(many, outcomes) if repeatable else outcomes

    def _with_lost_ones(self, many: Sequence[Call[T]], outcomes: list[T | TorporError]) -> list[T | TorporError]:
        """The outcomes after the calls whose replies were lost, such as those of one node, were sent again."""
        resending = self._resending()
        while lost := [place for place, outcome in enumerate(outcomes) if isinstance(outcome, RedisUnavailable)]:
            pause = resending.pause_after(RedisUnavailable(), repeatable=True)
            if pause is None:
                break
            run_sync(self.pause(pause))
            for place, outcome in zip(lost, self._outcomes([many[place] for place in lost]), strict=True):
                outcomes[place] = outcome
        return outcomes

    def _outcomes(self, many: Sequence[Call[T]]) -> Sequence[T | TorporError]:
        try:
            with self._kind.translated:
                return run_sync(self._pipelined(many))
        except RedisUnavailable as error:
            return [error] * len(many)

    async def _pipelined(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        # transaction=False, because the calls are independent and may be for different slots.
        pipeline = self._client.pipeline(transaction=False)
        for call in many:
            given = len(call.keys), *call.keys, *call.args
            pipeline.execute_command("EVALSHA", call.script.sha, *given, NEVER_DECODE=[], **self._target(call))
        replies = pipeline.execute(raise_on_error=False)
        return [self._outcome(call, reply) for call, reply in zip(many, replies, strict=True)]

    def load_scripts(self) -> None:
        """Load every script, so that the first pipeline need not be sent twice; one round trip for each script."""
        with self._kind.translated:
            for each in all_scripts():
                self._client.script_load(each.source)

    def has_scripts(self) -> bool:
        """True if the server, or each primary of a Cluster, has every script."""
        with self._kind.translated:
            return all(self._client.script_exists(*(each.sha for each in all_scripts())))

    def _target(self, call: Call[Any]) -> dict[str, Any]:
        """The node of a Cluster for a call in a pipeline; else the client asks a node for the keys of each call."""
        return {"target_nodes": self._client.get_node_from_key(call.keys[0])} if self._kind.cluster else {}

    def _outcome(self, call: Call[T], reply: Any) -> T | TorporError:
        try:
            if isinstance(reply, self._kind.no_script):
                return self.run(call)
            if isinstance(reply, Exception):
                raise naming_key(call.keys, translate(reply)) from reply
            return decoded(call, reply)
        except TorporError as error:
            return error
