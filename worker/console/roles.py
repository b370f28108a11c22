"""Roles: what people may do on the console. A role has permissions, and each page needs one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """What a page needs."""

    VIEW = "view"  # figures, ids, owners and sizes, but no text of messages
    READ = "read"  # the text of messages
    HOLD = "hold"  # set and release legal holds
    ERASE = "erase"  # give copies to people, and erase their sessions
    REPAIR = "repair"  # put to sleep, wake, requeue


class Role(StrEnum):
    """What somebody is; one person may have several roles."""

    VIEWER = "viewer"
    READER = "reader"
    OFFICER = "officer"
    OPERATOR = "operator"


PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.READER: frozenset({Permission.VIEW, Permission.READ}),
    Role.OFFICER: frozenset({Permission.VIEW, Permission.READ, Permission.HOLD, Permission.ERASE}),
    Role.OPERATOR: frozenset({Permission.VIEW, Permission.REPAIR}),
}


@dataclass(frozen=True, slots=True)
class Person:
    """Who makes a request. `name` is what the audit trail gets: an email address, or `local` with the local token."""

    name: str
    roles: frozenset[Role]

    @property
    def permissions(self) -> frozenset[Permission]:
        """All that the roles permit."""
        return frozenset().union(*(PERMISSIONS[role] for role in self.roles))

    def may(self, permission: Permission) -> bool:
        """True if one of the roles permits it."""
        return permission in self.permissions
