"""Owner rule: says whose a session is, by its id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from torpor.history.protocol import InvalidArgument, check_owner


@dataclass(frozen=True, slots=True)
class OwnerRule:
    """All sessions are `name`'s, or the group of `pattern` names the owner at the beginning of the session id."""

    name: str | None = None
    pattern: re.Pattern[str] | None = None

    @classmethod
    def of(cls, name: str | None, pattern: str | None) -> Self:
        """The rule; raises InvalidArgument and InvalidOwner."""
        if name is not None and pattern is not None:
            raise InvalidArgument("give an owner or a pattern, not both")
        if pattern is None:
            return cls(None if name is None else check_owner(name))
        try:
            compiled = re.compile(pattern)
        except re.error as exc:
            raise InvalidArgument(f"{pattern!r} is not a regular expression: {exc}") from exc
        if compiled.groups != 1:
            raise InvalidArgument(f"{pattern!r} must have one group, which is the owner, as in '([^:]+):'")
        return cls(None, compiled)

    def __bool__(self) -> bool:
        return self.name is not None or self.pattern is not None

    def owner(self, session_id: str) -> str | None:
        """The owner of a session; None if the rule names none."""
        if self.pattern is None:
            return self.name
        found = self.pattern.match(session_id)
        return (found[1] or None) if found else None
