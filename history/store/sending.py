"""Sends calls by a client, and again if that is safe and a reply was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from torpor.history.calls import Call
from torpor.history.clients.kinds import kind_of
from torpor.history.clients.resending import PAUSES_SECONDS, Resending, own_retries, persistently
from torpor.history.errors import MessageCorrupt, RedisRefused, TorporError
from torpor.history.keys import is_single

T = TypeVar("T")


class Sender:
    """A client of any kind, by which calls are sent.

    Each operation is written once, as a coroutine. With a blocking client a coroutine never waits, so `run_sync` runs
    it to its end.
    """

    def __init__(self, client: Any, *, resends: bool = True) -> None:
        """Raise InvalidArgument if the object is not a client. Without `resends`, each call is sent once."""
        self._kind = kind_of(client)
        self._client = client
        self._resends = resends

    @property
    def asynchronous(self) -> bool:
        """True if the client is one of asyncio."""
        return self._kind.asynchronous

    @property
    def cluster(self) -> bool:
        """True if the client is one of a Cluster."""
        return self._kind.cluster

    async def perform(self, call: Call[T]) -> T:
        """Run one call; a repeatable one is sent again if its reply was lost.

        Each call has its request id, so a turn that is sent again is written once.
        """
        try:
            sent = self._sent("EVALSHA", call.script.sha, call)
            reply = await sent if self._kind.asynchronous else sent
        except self._kind.translated.errors as failed:
            reply = await self._again(call, failed)
        return decoded(call, reply)

    async def _again(self, call: Call[Any], failed: Exception) -> Any:
        """The reply after a first try that has failed; by EVAL if the server does not have the script."""
        lacks_script = isinstance(failed, self._kind.no_script)
        try:
            return await self._persistently(
                partial(self._by_source if lacks_script else self._reply, call),
                repeatable=call.repeatable,
                failed=None if lacks_script else failed,
            )
        except RedisRefused as error:
            raise naming_key(call.keys, error) from error.__cause__

    async def _reply(self, call: Call[Any]) -> Any:
        try:
            sent = self._sent("EVALSHA", call.script.sha, call)
            return await sent if self._kind.asynchronous else sent
        except self._kind.no_script:
            return await self._by_source(call)

    async def _by_source(self, call: Call[Any]) -> Any:
        sent = self._sent("EVAL", call.script.source, call)
        return await sent if self._kind.asynchronous else sent

    def _sent(self, command: str, body: str | bytes, call: Call[Any]) -> Any:
        """The reply, or with asyncio an awaitable of it."""
        # NEVER_DECODE: replies are bytes even with decode_responses, so that stored bytes stay as they are.
        return self._client.execute_command(command, body, len(call.keys), *call.keys, *call.args, NEVER_DECODE=[])

    async def _persistently(
        self, act: Callable[[], Awaitable[T]], *, repeatable: bool, failed: Exception | None = None
    ) -> T:
        return await persistently(
            act,
            translated=self._kind.translated,
            resending=self._resending,
            pause=self.pause,
            repeatable=repeatable,
            failed=failed,
        )

    def _resending(self) -> Resending:
        return Resending(own_retries(self._client, self._kind) if self._resends else len(PAUSES_SECONDS))

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


def decoded(call: Call[T], reply: Any) -> T:
    """The result of a call; raises MessageCorrupt if a key has a value that is not Torpor's."""
    try:
        return call.decode(reply)
    except TorporError:
        raise
    except (ValueError, OverflowError) as exc:
        raise MessageCorrupt(f"Redis has a value that is not Torpor's, see torpor doctor: {exc}") from exc


def naming_key(keys: Sequence[bytes], error: TorporError) -> TorporError:
    """The error of an operation on these keys. A wrong type is said with those keys that a deployment has once."""
    named = ", ".join(key.decode() for key in keys if is_single(key))
    if not named or "WRONGTYPE" not in str(error):
        return error
    return RedisRefused(f"{named} is not Torpor's, see torpor doctor: {error}")
