"""Sends calls to the deployment that a client is for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from torpor.history import calls
from torpor.history.calls import KEEP, Deployment, Keep
from torpor.history.clients.kinds import address_of
from torpor.history.compression import Compression
from torpor.history.errors import ShardCountMismatch
from torpor.history.ids import DEFAULT_NAMESPACE, DEFAULT_SHARDS, check_namespace, check_shards
from torpor.history.overview import Identity
from torpor.history.policy import Policies
from torpor.history.store.sending import Sender

# Each client asks for its deployment once: the shard count never changes, and new defaults count from the next start.
_deployments: WeakKeyDictionary[Any, dict[str, Deployment]] = WeakKeyDictionary()
_NONE: Mapping[str, Deployment] = {}


class Runner(Sender):
    """A client, and the deployment that it is for."""

    def __init__(
        self, client: Any, *, namespace: str = DEFAULT_NAMESPACE, shards: int | None = None, resends: bool = True
    ) -> None:
        """`shards` need only be given to check the recorded count, or to give a new deployment another one than 256.

        `resends` as for Sender.
        """
        super().__init__(client, resends=resends)
        self._namespace = check_namespace(namespace)
        self._shards = None if shards is None else check_shards(shards)

    @property
    def namespace(self) -> str:
        """The prefix of all key names of the deployment."""
        return self._namespace

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
        compression: Compression | None = None,
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
            compression=compression,
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


class Operations:
    """Base of the classes whose operations are coroutines over any client."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.deployed = runner.deployed
        self.identified = runner.identified
        self.namespace = runner.namespace
        self.elsewhere = runner.elsewhere
        self.pause = runner.pause
