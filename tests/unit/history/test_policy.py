"""Policies: which rule counts for a session, and what it makes of an application's own wishes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.history.policy import Bounds, Rule
from torpor.history.protocol import Expiry, Policies, PoliciesUnreadable

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DEFAULT = Expiry(idle=DAY)


def policies(*rules: dict[str, Any]) -> Policies:
    return Policies.parse(json.dumps(rules).encode())


@pytest.mark.parametrize(
    ("rule", "session_id", "owner", "matches"),
    [
        ({"owner": "ann"}, "s", "ann", True),
        ({"owner": "ann"}, "s", "anna", False),
        ({"owner": "ann"}, "s", None, False),
        ({"owner_prefix": "ann"}, "s", "anna", True),
        ({"owner_prefix": "ann"}, "s", "bob", False),
        ({"owner_prefix": "ann"}, "s", None, False),
        ({"owner_prefix": ""}, "s", "bob", True),
        ({"owner_prefix": ""}, "s", None, False),
        ({"session_prefix": "web/"}, "web/1", None, True),
        ({"session_prefix": "web/"}, "app/1", "ann", False),
        ({"session_prefix": ""}, "s", None, True),
        ({"owner": "ann", "session_prefix": "web/"}, "web/1", "ann", True),
        ({"owner": "ann", "session_prefix": "web/"}, "web/1", "bob", False),
        ({"owner": "ann", "session_prefix": "web/"}, "app/1", "ann", False),
        ({"owner": "ann", "owner_prefix": "b"}, "s", "ann", False),
    ],
)
def test_a_rule_matches_where_all_that_it_names_does(
    rule: dict[str, str], session_id: str, owner: str | None, *, matches: bool
) -> None:
    assert policies(rule).rules[0].matches(session_id, owner) is matches


def test_the_first_rule_that_matches_counts_and_no_other() -> None:
    rules = policies(
        {"owner": "ann"},  # says nothing, and so exempts her
        {"owner_prefix": "a", "idle_timeout_seconds": 60},
        {"session_prefix": "", "idle_timeout_seconds": 3600, "max_age_seconds": 7200},
    )
    assert rules.resolve("s", "ann", Expiry(), DEFAULT) == Expiry()
    assert rules.resolve("s", "adam", Expiry(), DEFAULT) == Expiry(MINUTE)
    assert rules.resolve("s", "bob", Expiry(), DEFAULT) == Expiry(HOUR, 2 * HOUR)
    assert rules.resolve("s", None, Expiry(), DEFAULT) == Expiry(HOUR, 2 * HOUR)


def test_without_a_rule_everything_stays_as_the_application_has_it() -> None:
    own = Expiry(MINUTE, None, HOUR)
    assert Policies().resolve("s", "ann", own, DEFAULT) == own
    assert Policies().retention("s", "ann", HOUR, DAY) == HOUR
    assert Policies().retention("s", "ann", None, DAY) == DAY
    assert Policies().retention("s", "ann", None, None) is None


@pytest.mark.parametrize(
    ("bounds", "own", "otherwise", "resolved"),
    [
        (Bounds(default=HOUR), None, DAY, HOUR),
        (Bounds(default=HOUR), MINUTE, DAY, MINUTE),
        (Bounds(least=HOUR), MINUTE, DAY, HOUR),
        (Bounds(most=HOUR), DAY, DAY, HOUR),
        (Bounds(least=MINUTE, most=DAY), HOUR, None, HOUR),
        (Bounds(least=MINUTE, most=HOUR), None, DAY, HOUR),
        (Bounds(least=HOUR), None, MINUTE, HOUR),
        (Bounds(most=HOUR), None, None, HOUR),
        (Bounds(least=HOUR), None, None, None),
        (Bounds(), None, None, None),
    ],
)
def test_a_span_is_the_applications_own_else_a_default_and_within_the_bounds(
    bounds: Bounds, own: timedelta | None, otherwise: timedelta | None, resolved: timedelta | None
) -> None:
    assert bounds.resolve(own, otherwise) == resolved


def test_what_a_rule_says_nothing_of_stays_the_deployments_default() -> None:
    rules = policies({"session_prefix": "", "max_age_max_seconds": 60})
    assert rules.resolve("s", None, Expiry(), DEFAULT) == Expiry(None, MINUTE)


def test_a_retention_of_its_own_is_kept_as_it_is_and_bounded_only_when_it_is_used() -> None:
    rules = policies({"owner": "ann", "archive_retention_seconds": 3600, "archive_retention_max_seconds": 86_400})
    assert rules.resolve("s", "ann", Expiry(retention=9 * DAY), DEFAULT) == Expiry(retention=9 * DAY)
    assert rules.retention("s", "ann", 9 * DAY, None) == DAY
    assert rules.retention("s", "ann", None, 9 * DAY) == HOUR
    assert rules.retention("s", "bob", 9 * DAY, None) == 9 * DAY


@pytest.mark.parametrize(
    ("rule", "needed"),
    [({"owner": "ann"}, True), ({"owner_prefix": "a", "session_prefix": "s"}, True), ({"session_prefix": ""}, False)],
)
def test_policies_know_whether_they_need_the_owner(rule: dict[str, str], *, needed: bool) -> None:
    assert policies({"session_prefix": "x"}, rule).need_owner is needed
    assert not Policies().need_owner


SPANS = st.none() | st.integers(1, 10**9).map(lambda seconds: timedelta(seconds=seconds))
BOUNDS = st.builds(Bounds, SPANS, SPANS, SPANS)
NAMES = st.none() | st.text(st.characters(codec="utf-8"), max_size=5)


@given(st.lists(st.builds(Rule, NAMES, NAMES, NAMES, BOUNDS, BOUNDS, BOUNDS)).map(tuple).map(Policies))
def test_policies_are_read_back_as_they_were_recorded(recorded: Policies) -> None:
    assert Policies.parse(bytes(recorded)) == recorded


@pytest.mark.parametrize(
    "recorded",
    [
        b"",
        b"{",
        b"\xff",
        b"7",
        b'{"owner": "ann"}',
        b"[7]",
        b'[{"owner": "ann", "country": "de"}]',
        b'[{"owner": "ann", "idle_timeout_seconds": "60"}]',
        b'[{"owner": "ann", "idle_timeout_seconds": 1e300}]',
    ],
)
def test_policies_of_another_version_are_not_half_understood(recorded: bytes) -> None:
    with pytest.raises(PoliciesUnreadable, match="restart the worker"):
        Policies.parse(recorded)
