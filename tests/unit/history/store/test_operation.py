"""An operation is described once, in `calls`, and is both a coroutine and a blocking method."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import redis

from torpor import AsyncSessionStore
from torpor.history import calls
from torpor.history.protocol import SessionOperations, SessionStore
from torpor.history.store.operation import Operation
from torpor.history.store.runner import Runner
from torpor.history.store.single_calls import SingleCalls

SINGLE_CALLS = {name: each for name, each in vars(SingleCalls).items() if isinstance(each, Operation)}


@pytest.fixture
def client() -> redis.Redis:
    return redis.Redis()  # nothing is sent


@pytest.mark.parametrize("name", SINGLE_CALLS)
def test_an_operation_is_a_coroutine_of_session_operations_and_a_blocking_method_of_the_store(
    name: str, client: redis.Redis
) -> None:
    assert inspect.iscoroutinefunction(getattr(SessionOperations(Runner(client)), name))
    assert not inspect.iscoroutinefunction(getattr(SessionStore(client), name))


@pytest.mark.parametrize("name", SINGLE_CALLS)
def test_an_operation_has_the_documentation_and_the_parameters_of_its_call(name: str, client: redis.Redis) -> None:
    call = getattr(calls, name)
    deployment, *parameters = inspect.signature(call).parameters
    assert deployment == "deployment"
    bound: list[Any] = [getattr(SessionOperations(Runner(client)), name), getattr(SessionStore(client), name)]
    for method in bound:
        assert method.__doc__ == call.__doc__
        assert list(inspect.signature(method).parameters) == parameters
    assert getattr(SessionStore, name).__doc__ == getattr(AsyncSessionStore, name).__doc__ == call.__doc__


def test_every_operation_of_applications_is_one_of_the_blocking_store_too() -> None:
    public = {name for name in dir(SessionOperations) if not name.startswith("_")}
    inside = {"transcript"}  # for Conversation, which is written as coroutines
    assert public - inside <= set(dir(SessionStore))
