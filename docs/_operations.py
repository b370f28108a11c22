# ruff: noqa: INP001 - an extension of griffe, not a package
"""Shows `info = _blocking(_info)` on the site as a method, with the signature and the docstring of `_info`."""

from __future__ import annotations

import re
from typing import Any

import griffe

_MADE = re.compile(r"_(?P<kind>blocking|awaited)\((?P<operation>\w+)\)")


class Operations(griffe.Extension):
    """Puts functions in the place of attributes that a decorator has made of a private coroutine."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """See griffe.Extension."""
        for name, member in list(cls.members.items()):
            made = _MADE.fullmatch(str(member.value)) if member.is_attribute else None
            if made and (operation := cls.members.get(made["operation"])):
                cls.set_member(name, _method(name, operation, member, awaited=made["kind"] == "awaited"))


def _method(name: str, operation: Any, member: Any, *, awaited: bool) -> griffe.Function:
    method = griffe.Function(
        name,
        lineno=member.lineno,
        endlineno=member.endlineno,
        parameters=operation.parameters,
        returns=operation.returns,
        docstring=operation.docstring,
    )
    method.labels = {"async"} if awaited else set()
    return method
