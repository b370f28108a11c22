"""How a call is run on a Redis client, and what all operations of a store share."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import redis
import redis.cluster
import redis.exceptions

from history import calls
from history.calls import KEEP, Call, Deployment, Keep
from history.errors import InvalidArgument, ShardCountMismatch, TorporError, translate
from history.keys import DEFAULT_NAMESPACE, DEFAULT_SHARDS, check_namespace, check_shards
from history.policy import Policies
from history.scripts import all_scripts

T = TypeVar("T")

# What was fixed for a deployment never changes, so each client asks for it once.
_deployments: WeakKeyDictionary[Any, dict[str, Deployment]] = WeakKeyDictionary()


class Runner:
    """A client and the deployment in it; the operations of a store are built on it."""

    def __init__(
        self,
        client: redis.Redis | redis.cluster.RedisCluster,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        shards: int | None = None,
    ) -> None:
        """`shards` need only be given where it is not the deployment's recorded count or, for a new one, 256."""
        execute = getattr(client, "execute_command", None)
        if execute is None:
            raise InvalidArgument(f"expected a redis-py client, not {type(client).__name__}")
        if inspect.iscoroutinefunction(execute):
            raise InvalidArgument(f"{type(client).__module__} is an asyncio client; this store needs a sync one")
        self._client = client
        self._namespace = check_namespace(namespace)
        self._shards = None if shards is None else check_shards(shards)

    # The deployment

    @property
    def client(self) -> redis.Redis | redis.cluster.RedisCluster:
        """The client that the store was given."""
        return self._client

    @property
    def deployment(self) -> Deployment:
        """The shard count and defaults of the namespace; asks Redis once for each client, and records nothing.

        Raises ShardCountMismatch where the store was given another shard count than the recorded one.
        """
        return self._deployment(record=False)

    @property
    def _recorded(self) -> Deployment:
        """As `deployment`, for what may bring a first session into being: the shard count is fixed by then."""
        return self._deployment(record=True)

    def configure(
        self,
        *,
        idle: timedelta,
        max_age: timedelta | None,
        policies: Policies = Policies(),  # noqa: B008 - frozen
    ) -> Deployment:
        """Record the deployment's default expiry and policies; applications see them when they next start."""
        return self._remembered(self._configure(record=True, idle=idle, max_age=max_age, policies=policies))

    def _deployment(self, *, record: bool) -> Deployment:
        known = _deployments.setdefault(self._client, {}).get(self._namespace)
        return self._checked(known) if known else self._remembered(self._configure(record=record))

    def _configure(
        self,
        *,
        record: bool,
        idle: timedelta | None = None,
        max_age: timedelta | Keep | None = KEEP,
        policies: Policies | None = None,
    ) -> Deployment:
        shards = self._shards or DEFAULT_SHARDS
        return self.run(calls.configure(self._namespace, shards, idle, max_age, policies, record=record))

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

    def run(self, call: Call[T]) -> T:
        """Run one call: EVALSHA, and EVAL where the server has lost the script."""
        with translated():
            try:
                reply = self._evaluate("EVALSHA", call.script.sha, call)
            except redis.exceptions.NoScriptError:
                reply = self._evaluate("EVAL", call.script.source, call)
        return call.decode(reply)

    def run_many(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        """Run independent calls in one pipeline; an error stands in its call's place."""
        if not many:
            return []
        with translated():
            # transaction=False: the calls are independent and may be of different slots.
            pipeline = self._client.pipeline(transaction=False)
            for call in many:
                arguments = _arguments(call.script.sha, call)
                pipeline.execute_command("EVALSHA", *arguments, NEVER_DECODE=[], **self._target(call))
            replies = pipeline.execute(raise_on_error=False)
        return [self._outcome(call, reply) for call, reply in zip(many, replies, strict=True)]

    def load_scripts(self) -> None:
        """Load every script, so that a first pipeline need not be sent twice; one round trip a script."""
        with translated():
            for each in all_scripts():
                self._client.script_load(each.source)

    def _evaluate(self, command: str, body: str | bytes, call: Call[T]) -> Any:
        # NEVER_DECODE: replies are bytes whatever decode_responses says, so that stored bytes stay untouched.
        return self._client.execute_command(command, *_arguments(body, call), NEVER_DECODE=[])

    def _target(self, call: Call[Any]) -> dict[str, Any]:
        """Which node of a Cluster a pipeline sends a call to; redis-py would ask one for the keys of each call."""
        if isinstance(self._client, redis.cluster.RedisCluster):
            return {"target_nodes": self._client.get_node_from_key(call.keys[0])}
        return {}

    def _outcome(self, call: Call[T], reply: Any) -> T | TorporError:
        try:
            if isinstance(reply, redis.exceptions.NoScriptError):
                return self.run(call)
            if isinstance(reply, Exception):
                raise translate(reply) from reply
            return call.decode(reply)
        except TorporError as error:
            return error


@contextmanager
def translated() -> Iterator[None]:
    """Whatever redis-py raises within becomes the error of `history.errors` that it means."""
    try:
        yield
    except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as exc:
        raise translate(exc) from exc


def _arguments(body: str | bytes, call: Call[Any]) -> list[str | bytes | int]:
    return [body, len(call.keys), *call.keys, *call.args]
