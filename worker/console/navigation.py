"""Navigation: the groups of pages that everybody finds at the top of each page, without those they may not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torpor.worker.console.roles import Permission, Person


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the navigation, and the permission without which it is not shown."""

    path: str
    name: str
    permission: Permission = Permission.VIEW


# The name of a group, and its entries; a group without a name is shown as its entries alone.
_GROUPS: Sequence[tuple[str, Sequence[Entry]]] = (
    ("", (Entry("/", "Overview"), Entry("/sessions", "Sessions"), Entry("/person", "People"))),
    ("Records", (Entry("/purges", "Purges"), Entry("/holds", "Holds"), Entry("/audit", "Audit"))),
    (
        "Care",
        (
            Entry("/quarantine", "Quarantine"),
            Entry("/bucket", "Bucket"),
            Entry("/doctor", "Doctor"),
            Entry("/jobs", "Jobs"),
        ),
    ),
)


def groups(person: Person | None) -> list[tuple[str, list[Entry]]]:
    """The groups of which the person may use something."""
    if person is None:
        return []
    visible = ((name, [each for each in entries if person.may(each.permission)]) for name, entries in _GROUPS)
    return [(name, entries) for name, entries in visible if entries]
