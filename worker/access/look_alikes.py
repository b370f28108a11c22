"""Look-alikes: owners whose names somebody could take for another one's, found without a walk.

Nobody knows all owners' names but a walk through everything. So a handful of names is looked up, which differ from the
given one by the case of letters, by blanks around it, or by the Unicode form of characters. Letters of other scripts
that look the same are not among them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from torpor.history.protocol import InvalidOwner, check_owner
from torpor.worker.access import counting
from torpor.worker.archive import names
from torpor.worker.deployment.services import Services

_FORMS: tuple[Literal["NFC", "NFD", "NFKC"], ...] = ("NFC", "NFD", "NFKC")


@dataclass(frozen=True, slots=True)
class LookAlike:
    """An owner with a similar name, who has so many sessions; with `more`, at least so many."""

    owner: str
    sessions: int
    more: bool

    def __str__(self) -> str:
        """The name, quoted so that blanks are seen, and the number."""
        least = "over " if self.more else ""
        return f"{self.owner!r}, {least}{self.sessions:,} session{'' if self.sessions == 1 else 's'}"


def find(services: Services, owner: str) -> list[LookAlike]:
    """The owners with names similar to one, who have sessions, by name. Raises InvalidOwner.

    Costs a pipeline and a listing of the archive for each name that is looked up, and for each owner that is found what
    it costs to count.
    """
    similar = sorted(names_like(check_owner(owner)))
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        known = list(pool.map(lambda each: _has_sessions(services, each), similar))
    found = [each for each, is_known in zip(similar, known, strict=True) if is_known]
    counted = ((each, counting.count(services, each)) for each in found)
    return [LookAlike(each, len(count.ids), count.more) for each, count in counted if count.ids]


def _has_sessions(services: Services, owner: str) -> bool:
    return services.sessions.count_owned(owner) > 0 or any(services.archive.list(names.all_owner_markers(owner)))


def names_like(owner: str) -> set[str]:
    """The names that are looked up for an owner; those that no owner may have are left out."""
    found = set[str]()
    for form in (owner, owner.strip(), *(unicodedata.normalize(form, owner.strip()) for form in _FORMS)):
        found.update(_in_other_cases(form))
    found |= {f"{owner.strip()} ", f" {owner.strip()}"}
    return {each for each in found - {owner} if _is_valid(each)}


def _in_other_cases(name: str) -> Iterator[str]:
    yield name
    yield name.lower()
    yield name.upper()
    yield name.title()
    yield name[:1].upper() + name[1:]
    yield name[:1].lower() + name[1:]
    yield name[:1].upper() + name[1:].lower()
    local, at, domain = name.rpartition("@")
    if at:
        yield f"{local}@{domain.lower()}"


def _is_valid(name: str) -> bool:
    try:
        check_owner(name)
    except InvalidOwner:
        return False
    return True
