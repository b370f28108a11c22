"""Operations are coroutines, each written once; here they become what blocking code calls.

With a blocking client nothing in them ever waits for an event loop, so one step takes each to its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")


def run_sync(operation: Awaitable[T]) -> T:
    """The result of a coroutine that never waits."""
    steps = operation.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("a blocking operation waited for an event loop")


def iterate_sync(operation: AsyncIterator[T]) -> Iterator[T]:
    """What an asynchronous iterator that never waits gives."""
    while True:
        try:
            found = run_sync(anext(operation))
        except StopAsyncIteration:
            return
        yield found


def blocking(
    operation: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """A method that does what the coroutine of that name of its object's `operations` does."""

    @wraps(operation)
    def done(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = run_sync(getattr(self.operations, operation.__name__)(*args, **kwargs))
        return result

    return cast(Callable[Concatenate[Any, P], T], done)


def blocking_iterator(
    operation: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """As `blocking`, for an asynchronous iterator."""

    @wraps(operation)
    def done(self: Any, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return iterate_sync(getattr(self.operations, operation.__name__)(*args, **kwargs))

    return cast(Callable[Concatenate[Any, P], Iterator[T]], done)
