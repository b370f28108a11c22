"""Runs calls on a client, and knows the deployment that they are for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torpor.history import calls
from torpor.history.calls import KEEP, Call, Deployment, Keep
from torpor.history.clients.blocking import run_sync
from torpor.history.clients.kinds import address_of, kind_of
from torpor.history.clients.resending import Resending, own_retries, persistently
from torpor.history.errors import (
    InvalidArgument,
    MessageCorrupt,
    RedisUnavailable,
    ShardCountMismatch,
    TorporError,
    translate,
)
from torpor.history.keys import DEFAULT_NAMESPACE, DEFAULT_SHARDS, check_namespace, check_shards
from torpor.history.overview import Identity
from torpor.history.policy import Policies
from torpor.history.scripts import all_scripts

T = TypeVar("T")

# Each client asks for its deployment once: the shard count never changes, and new defaults count from the next start.
_deployments: WeakKeyDictionary[Any, dict[str, Deployment]] = WeakKeyDictionary()
_NONE: Mapping[str, Deployment] = {}


class Runner:
    """A client, and the deployment that it is for.

    Each operation is written once, as a coroutine. With a blocking client a coroutine never waits, so `run_sync` runs
    it to its end.
    """

    def __init__(self, client: Any, *, namespace: str = DEFAULT_NAMESPACE, shards: int | None = None) -> None:
        """`shards` need only be given to check the recorded count, or to give a new deployment another one than 256."""
        self._kind = kind_of(client)
        self._client = client
        self._namespace = check_namespace(namespace)
        self._shards = None if shards is None else check_shards(shards)

    @property
    def asynchronous(self) -> bool:
        """True if the client is one of asyncio."""
        return self._kind.asynchronous

    @property
    def namespace(self) -> str:
        """The prefix of all key names of the deployment."""
        return self._namespace

    # The deployment

    async def deployed(self, *, record: bool = False, afresh: bool = False) -> Deployment:
        """The deployment of the namespace; asks Redis once for each client, or again with `afresh`.

        `record` fixes the shard count, for operations that may create the first session. Raises ShardCountMismatch if
        the given shard count is not the recorded one.
        """
        known = self._known()
        if known and not afresh:
            return known
        await self._connected()
        return self._remembered(await self._configured(record=record))

    async def identified(self) -> Identity:
        """The identity that Redis has recorded; asks Redis each time, and records nothing."""
        deployed = await self.deployed(afresh=True)
        configured = deployed.recorded and deployed.retention_known
        return Identity(
            address_of(self._client),
            deployed.id,
            deployed.archive,
            configured=configured,
            fence=deployed.fence,
            read_at=deployed.read_at,
        )

    def _known(self) -> Deployment | None:
        known = _deployments.get(self._client, _NONE).get(self._namespace)
        return self._checked(known) if known else None

    async def _connected(self) -> None:
        """Have an asyncio client of a Cluster ask for the nodes.

        Before that, redis-py sends the commands of several tasks to any node; after five redirections it closes all
        connections, also those of other tasks.
        """
        if self.asynchronous:
            await self._persistently(self._client.initialize, repeatable=True)

    async def _configured(
        self,
        *,
        record: bool,
        idle: timedelta | None = None,
        max_age: timedelta | Keep | None = KEEP,
        retention: timedelta | Keep | None = KEEP,
        policies: Policies | None = None,
        require_owner: bool | None = None,
    ) -> Deployment:
        shards = self._shards or DEFAULT_SHARDS
        wanted = calls.configure(
            self._namespace,
            shards,
            idle,
            max_age,
            retention=retention,
            policies=policies,
            require_owner=require_owner,
            record=record,
        )
        return await self.perform(wanted)

    def _remembered(self, deployment: Deployment) -> Deployment:
        self._checked(deployment)
        if deployment.recorded:
            _deployments.setdefault(self._client, {})[self._namespace] = deployment
        return deployment

    def _checked(self, deployment: Deployment) -> Deployment:
        recorded = deployment.keyspace.shards
        if self._shards is not None and self._shards != recorded:
            raise ShardCountMismatch(
                f"this deployment ({self._namespace!r}) has {recorded} shards, not {self._shards}; "
                f"the count is fixed at first use: pass shards={recorded} or leave it out"
            )
        return deployment

    # How a call is run

    async def perform(self, call: Call[T]) -> T:
        """Run one call; a repeatable one is sent again if its reply was lost.

        Each call has its request id, so a turn that is sent again is written once.
        """
        return _decoded(call, await self._persistently(partial(self._reply, call), repeatable=call.repeatable))

    async def _reply(self, call: Call[Any]) -> Any:
        """EVALSHA, or EVAL if the server does not have the script."""
        try:
            return await self._evaluate("EVALSHA", call.script.sha, call)
        except self._kind.no_script:
            return await self._evaluate("EVAL", call.script.source, call)

    async def _persistently(self, act: Callable[[], Awaitable[T]], *, repeatable: bool) -> T:
        translated = partial(self._translated, act)
        return await persistently(translated, resending=self._resending, pause=self.pause, repeatable=repeatable)

    async def _translated(self, act: Callable[[], Awaitable[T]]) -> T:
        with self._kind.translated:
            return await act()

    def _resending(self) -> Resending:
        return Resending(own_retries(self._client, self._kind))

    async def _evaluate(self, command: str, body: str | bytes, call: Call[Any]) -> Any:
        # NEVER_DECODE: replies are bytes even with decode_responses, so that stored bytes stay as they are.
        reply = self._client.execute_command(command, *_arguments(body, call), NEVER_DECODE=[])
        return await reply if self.asynchronous else reply

    async def elsewhere(self, act: Callable[[], T], threads: Executor | None = None) -> T:
        """Do blocking I/O other than the client's, such as the archive's; with asyncio in a thread."""
        if not self.asynchronous:
            return act()
        return await asyncio.get_running_loop().run_in_executor(threads, act)

    async def pause(self, seconds: float) -> None:
        """Sleep, without blocking an event loop."""
        if self.asynchronous:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 - no event loop waits for a blocking client


def _decoded(call: Call[T], reply: Any) -> T:
    """The result of a call; raises MessageCorrupt if a key has a value that is not Torpor's."""
    try:
        return call.decode(reply)
    except TorporError:
        raise
    except (ValueError, OverflowError) as exc:
        raise MessageCorrupt(f"Redis has a value that is not Torpor's, see torpor doctor: {exc}") from exc


class Operations:
    """Base of the classes whose operations are coroutines over any client."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.deployed = runner.deployed
        self.identified = runner.identified
        self.namespace = runner.namespace
        self.elsewhere = runner.elsewhere
        self.pause = runner.pause


class BlockingRunner(Runner):
    """A runner with a blocking client; base of the classes with the operations that only the worker needs."""

    def __init__(self, client: Any, *, namespace: str = DEFAULT_NAMESPACE, shards: int | None = None) -> None:
        """As Runner; raises InvalidArgument for an asyncio client."""
        super().__init__(client, namespace=namespace, shards=shards)
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
    ) -> Deployment:
        """Record the deployment's default expiry, its policies, and whether each session must have an owner.

        Applications see them when they next start.
        """
        wanted = self._configured(
            record=True,
            idle=idle,
            max_age=max_age,
            retention=retention,
            policies=policies,
            require_owner=require_owner,
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
            return run_sync(self._translated(partial(self._pipelined, many)))
        except RedisUnavailable as error:
            return [error] * len(many)

    async def _pipelined(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        # transaction=False, because the calls are independent and may be for different slots.
        pipeline = self._client.pipeline(transaction=False)
        for call in many:
            arguments = _arguments(call.script.sha, call)
            pipeline.execute_command("EVALSHA", *arguments, NEVER_DECODE=[], **self._target(call))
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
                raise translate(reply) from reply
            return _decoded(call, reply)
        except TorporError as error:
            return error


def _arguments(body: str | bytes, call: Call[Any]) -> list[str | bytes | int]:
    return [body, len(call.keys), *call.keys, *call.args]
