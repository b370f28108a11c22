"""A method that runs one call, described once for both kinds of client."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from torpor.history.calls import Call, Deployment
from torpor.history.clients.blocking import run_sync
from torpor.history.store.any_owner import for_any_owner
from torpor.history.store.blocking_runner import BlockingRunner
from torpor.history.store.runner import Operations, Runner

T = TypeVar("T")
P = ParamSpec("P")


class Operation(Generic[P, T]):
    """Runs what a function of `calls` describes: blocking in a SessionStore, as a coroutine in SessionOperations.

    Its parameters and its documentation are those of the function, without the deployment. In a SessionStore it is for
    any owner, unless it is told whose session it is for. With `record`, for an
    operation that may bring a first session into being, the deployment's shard count is recorded before.
    """

    def __init__(self, call: Callable[Concatenate[Deployment, P], Call[T]], *, record: bool = False) -> None:
        @wraps(call)
        async def coroutine(runner: Runner, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return await runner.perform(call(await runner.deployed(record=record), *args, **kwargs))

        @wraps(call)
        def blocking(runner: BlockingRunner, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return run_sync(coroutine(runner, *args, **kwargs))

        self._coroutine = coroutine
        self._blocking = for_any_owner(blocking)
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: BlockingRunner, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Operations, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: BlockingRunner | Operations | None, owner: type) -> Any:
        if instance is None:
            return self._blocking if issubclass(owner, BlockingRunner) else self._coroutine
        if isinstance(instance, BlockingRunner):
            return MethodType(self._blocking, instance)
        return MethodType(self._coroutine, instance.runner)
