"""Turns coroutines into blocking functions.

Each operation is written once, as a coroutine. With a blocking client a coroutine never waits for an event loop, so its
first step runs it to its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")


def run_sync(operation: Awaitable[T]) -> T:
    """Run a coroutine that never waits, and return its result."""
    steps = operation.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("a blocking operation waited for an event loop")


def iterate_sync(operation: AsyncIterator[T]) -> Iterator[T]:
    """Iterate over an asynchronous iterator that never waits."""
    while True:
        try:
            found = run_sync(anext(operation))
        except StopAsyncIteration:
            return
        yield found
        del found  # it may be large, and the next one comes beside what is kept


def blocking(
    operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """A method that runs the coroutine of the same name of `self.operations`."""

    @wraps(operation)
    def done(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = run_sync(getattr(self.operations, operation.__name__)(*args, **kwargs))
        return result

    return cast(Callable[Concatenate[Any, P], T], done)


def blocking_iterator(
    operation: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """A method that iterates over the asynchronous iterator of the same name of `self.operations`."""

    @wraps(operation)
    def done(self: Any, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return iterate_sync(getattr(self.operations, operation.__name__)(*args, **kwargs))

    return cast(Callable[Concatenate[Any, P], Iterator[T]], done)
