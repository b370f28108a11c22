"""The caller of a SessionStore: unless an operation is told whose sessions it is for, it is for those of any owner."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from torpor.history.owners import ANY_OWNER

T = TypeVar("T")
P = ParamSpec("P")


def for_any_owner(operation: Callable[P, T]) -> Callable[P, T]:
    """The operation with ANY_OWNER as the default of its `owner`; an operation that knows no caller stays as it is."""
    owner = signature(operation).parameters.get("owner")
    if owner is None or owner.default is not None:
        return operation

    @wraps(operation)
    def done(*args: P.args, **given: P.kwargs) -> T:
        named: dict[str, Any] = {"owner": ANY_OWNER} | given
        return operation(*args, **named)

    return done
