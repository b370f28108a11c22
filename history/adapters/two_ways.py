"""An adapter's operation, written once as a coroutine, as a blocking method and as a method for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from torpor.history.clients.blocking import run_sync

T = TypeVar("T")
P = ParamSpec("P")


class TwoWays(Protocol):
    """An adapter that has both kinds of methods."""

    @property
    def _asynchronous(self) -> bool:
        """True if the client is one of asyncio."""

    def _check_blocking(self) -> None:
        """Raise ClientMismatch if the client is one of asyncio."""


def blocking_method(
    operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The operation as a blocking method."""

    @wraps(operation)
    def done(self: TwoWays, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self._check_blocking()
        return run_sync(operation(self, *args, **kwargs))

    return done


def awaited_method(
    operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], method: str = ""
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The operation as a coroutine; with a blocking client it calls the blocking method in a thread.

    `method` is the name of that method; unless given, that of the operation without its underscore. A class that
    inherits from ours may have changed the method.
    """
    method = method or operation.__name__.removeprefix("_")

    @wraps(operation)
    async def done(self: TwoWays, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._asynchronous:
            return await operation(self, *args, **kwargs)
        found: T = await asyncio.to_thread(lambda: getattr(self, method)(*args, **kwargs))
        return found

    return done


async def in_a_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """Iterate over a blocking iterator, each step in a thread."""
    done = object()
    while (item := await asyncio.to_thread(next, items, done)) is not done:
        yield cast(T, item)
