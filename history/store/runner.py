"""How a call is run on a client, and what all operations of a store share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torpor.history import calls
from torpor.history.calls import KEEP, Call, Deployment, Keep
from torpor.history.clients.blocking import run_sync
from torpor.history.clients.kinds import kind_of
from torpor.history.errors import InvalidArgument, ShardCountMismatch, TorporError, translate
from torpor.history.keys import DEFAULT_NAMESPACE, DEFAULT_SHARDS, check_namespace, check_shards
from torpor.history.policy import Policies
from torpor.history.scripts import all_scripts

T = TypeVar("T")

# What was fixed for a deployment never changes, so each client asks for it once.
_deployments: WeakKeyDictionary[Any, dict[str, Deployment]] = WeakKeyDictionary()
_NONE: Mapping[str, Deployment] = {}


class Runner:
    """A client and the deployment in it.

    Its coroutines wait only where the client is one of asyncio; with a blocking client they are `finished` at once.
    So each operation is written once, as a coroutine.
    """

    def __init__(self, client: Any, *, namespace: str = DEFAULT_NAMESPACE, shards: int | None = None) -> None:
        """`shards` need only be given where it is not the deployment's recorded count or, for a new one, 256."""
        self._kind = kind_of(client)
        self._client = client
        self._namespace = check_namespace(namespace)
        self._shards = None if shards is None else check_shards(shards)

    @property
    def asynchronous(self) -> bool:
        """Is the client one of asyncio?"""
        return self._kind.asynchronous

    @property
    def namespace(self) -> str:
        """What all key names of the deployment begin with."""
        return self._namespace

    # The deployment

    async def deployed(self, *, record: bool = False, afresh: bool = False) -> Deployment:
        """The shard count and defaults of the namespace; asks Redis once for each client, or `afresh`.

        With `record`, for what may bring a first session into being, the shard count is fixed by it.
        Raises ShardCountMismatch where another shard count was given than the recorded one.
        """
        known = self._known()
        if known and not afresh:
            return known
        await self._connected()
        return self._remembered(await self._configured(record=record))

    def _known(self) -> Deployment | None:
        known = _deployments.get(self._client, _NONE).get(self._namespace)
        return self._checked(known) if known else None

    async def _connected(self) -> None:
        """Have an asyncio client ask a Cluster for its nodes.

        Commands that several tasks send before that go to any node, and redis-py closes all connections, those of
        other tasks too, when it has been redirected five times.
        """
        if self.asynchronous:
            with self._kind.translated:
                await self._client.initialize()

    async def _configured(
        self,
        *,
        record: bool,
        idle: timedelta | None = None,
        max_age: timedelta | Keep | None = KEEP,
        retention: timedelta | Keep | None = KEEP,
        policies: Policies | None = None,
    ) -> Deployment:
        shards = self._shards or DEFAULT_SHARDS
        wanted = calls.configure(
            self._namespace, shards, idle, max_age, retention=retention, policies=policies, record=record
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
        """Run one call: EVALSHA, and EVAL where the server has lost the script."""
        with self._kind.translated:
            try:
                reply = await self._evaluate("EVALSHA", call.script.sha, call)
            except self._kind.no_script:
                reply = await self._evaluate("EVAL", call.script.source, call)
        return call.decode(reply)

    async def _evaluate(self, command: str, body: str | bytes, call: Call[Any]) -> Any:
        # NEVER_DECODE: replies are bytes whatever decode_responses says, so that stored bytes stay untouched.
        reply = self._client.execute_command(command, *_arguments(body, call), NEVER_DECODE=[])
        return await reply if self.asynchronous else reply

    async def elsewhere(self, act: Callable[[], T], threads: Executor | None = None) -> T:
        """Do what blocks and is not the client's, as the archive's I/O is; in a thread where others would wait."""
        if not self.asynchronous:
            return act()
        return await asyncio.get_running_loop().run_in_executor(threads, act)

    async def pause(self, seconds: float) -> None:
        """Wait for somebody else."""
        if self.asynchronous:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 - no event loop waits for a blocking client


class Operations:
    """What groups of operations have in common: the runner that each of them is run by."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.deployed = runner.deployed
        self.elsewhere = runner.elsewhere
        self.pause = runner.pause


class BlockingRunner(Runner):
    """A blocking client; the operations that only the worker needs are built on it."""

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
        """As `deployed`; records nothing."""
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
    ) -> Deployment:
        """Record the deployment's default expiry and policies; applications see them when they next start."""
        wanted = self._configured(record=True, idle=idle, max_age=max_age, retention=retention, policies=policies)
        return self._remembered(run_sync(wanted))

    def run(self, call: Call[T]) -> T:
        """As `perform`."""
        return run_sync(self.perform(call))

    def run_many(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        """Run independent calls in one pipeline; an error stands in its call's place."""
        if not many:
            return []
        with self._kind.translated:
            # transaction=False: the calls are independent and may be of different slots.
            pipeline = self._client.pipeline(transaction=False)
            for call in many:
                arguments = _arguments(call.script.sha, call)
                pipeline.execute_command("EVALSHA", *arguments, NEVER_DECODE=[], **self._target(call))
            replies = pipeline.execute(raise_on_error=False)
        return [self._outcome(call, reply) for call, reply in zip(many, replies, strict=True)]

    def load_scripts(self) -> None:
        """Load every script, so that a first pipeline need not be sent twice; one round trip a script."""
        with self._kind.translated:
            for each in all_scripts():
                self._client.script_load(each.source)

    def _target(self, call: Call[Any]) -> dict[str, Any]:
        """Which node of a Cluster a pipeline sends a call to; the client would ask one for the keys of each call."""
        return {"target_nodes": self._client.get_node_from_key(call.keys[0])} if self._kind.cluster else {}

    def _outcome(self, call: Call[T], reply: Any) -> T | TorporError:
        try:
            if isinstance(reply, self._kind.no_script):
                return self.run(call)
            if isinstance(reply, Exception):
                raise translate(reply) from reply
            return call.decode(reply)
        except TorporError as error:
            return error


def _arguments(body: str | bytes, call: Call[Any]) -> list[str | bytes | int]:
    return [body, len(call.keys), *call.keys, *call.args]
