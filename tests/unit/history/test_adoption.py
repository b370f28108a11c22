"""The record of an adoption."""

from __future__ import annotations

from support.foreign import LAYOUTS
from torpor.history.adoption import Adoption


def test_an_adoption_that_an_older_version_has_begun_is_read() -> None:
    old = Adoption("s", LAYOUTS["community"], "0a1b", "4e5f", 3, 1795635452212)
    assert Adoption.parse("s", bytes(old)) == old
    assert bytes(old).count(b",") == 4  # without an owner, the record is the older one
    owned = Adoption("s", LAYOUTS["community"], "0a1b", "4e5f", 3, 1795635452212, "ann")
    assert Adoption.parse("s", bytes(owned)) == owned
