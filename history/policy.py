"""Policies: a deployment's rules on how long sessions may be idle, stay in Redis and be kept in the archive.

As JSON they are a list of rules, each with the names of TORPOR_POLICIES; spans are whole seconds:
[{"owner_prefix": "guest-", "idle_timeout_max_seconds": 900, "archive_retention_seconds": 86400}, ...]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from torpor.history.errors import PoliciesUnreadable
from torpor.history.session import Expiry

_MATCHERS = ("owner", "owner_prefix", "session_prefix")
# Field of Rule -> what the names of its spans begin with; field of Bounds -> what follows that.
_SPANS = {"idle": "idle_timeout", "max_age": "max_age", "retention": "archive_retention"}
_BOUNDS = {"default": "_seconds", "least": "_min_seconds", "most": "_max_seconds"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a rule says of one span: its default, and the least and the most that an application can ask for."""

    default: timedelta | None = None
    least: timedelta | None = None
    most: timedelta | None = None

    def __bool__(self) -> bool:
        return self != Bounds()

    def resolve(self, own: timedelta | None, otherwise: timedelta | None) -> timedelta | None:
        """What is in force: an application's own, else the default, else `otherwise`, within the bounds.

        None is for ever, which only `most` makes shorter.
        """
        span = own or self.default or otherwise
        if span is None:
            return self.most
        span = max(span, self.least or span)
        return min(span, self.most or span)


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts for the sessions that it matches: all that is given of owner, owner's prefix and session's prefix.

    An empty prefix is every owner's, or every session's. A session without an owner matches neither kind of owner.
    """

    owner: str | None = None
    owner_prefix: str | None = None
    session_prefix: str | None = None
    idle: Bounds = Bounds()
    max_age: Bounds = Bounds()
    retention: Bounds = Bounds()

    def matches(self, session_id: str, owner: str | None) -> bool:
        """Does the rule count for this session?"""
        if self.owner is not None and owner != self.owner:
            return False
        if self.owner_prefix is not None and (owner is None or not owner.startswith(self.owner_prefix)):
            return False
        return session_id.startswith(self.session_prefix or "")


@dataclass(frozen=True, slots=True)
class Policies:
    """The rules of a deployment, of which the first that matches a session counts."""

    rules: tuple[Rule, ...] = ()

    @property
    def need_owner(self) -> bool:
        """Does it depend on a session's owner which rule counts?"""
        return any(rule.owner is not None or rule.owner_prefix is not None for rule in self.rules)

    def rule(self, session_id: str, owner: str | None) -> Rule:
        """The rule that counts for a session; one that says nothing where none matches."""
        return next((rule for rule in self.rules if rule.matches(session_id, owner)), Rule())

    def resolve(self, session_id: str, owner: str | None, own: Expiry, otherwise: Expiry) -> Expiry:
        """The idle timeout and maximum age to give a session that an application asks `own` for.

        What the rule says nothing of stays as the application has it, and so does the retention, which the worker
        resolves when it archives. `otherwise` is the deployment's default.
        """
        if not self.rules:
            return own
        rule = self.rule(session_id, owner)
        return replace(
            own,
            idle=rule.idle.resolve(own.idle, otherwise.idle) if rule.idle else own.idle,
            max_age=rule.max_age.resolve(own.max_age, otherwise.max_age) if rule.max_age else own.max_age,
        )

    def retention(
        self, session_id: str, owner: str | None, own: timedelta | None, otherwise: timedelta | None
    ) -> timedelta | None:
        """How long the archive keeps a session after its last activity; None is for ever."""
        return self.rule(session_id, owner).retention.resolve(own, otherwise)

    @classmethod
    def parse(cls, text: bytes) -> Policies:
        """The policies of a JSON text; raises PoliciesUnreadable."""
        try:
            return cls(tuple(map(_parse_rule, json.loads(text))))
        except (ValueError, TypeError, AttributeError, OverflowError) as exc:
            raise PoliciesUnreadable(
                "the policies that are recorded for this deployment can't be read: upgrade this side to the worker's "
                f"version, or restart the worker, which records them anew ({exc})"
            ) from exc

    def __bytes__(self) -> bytes:
        return json.dumps([_told(rule) for rule in self.rules], ensure_ascii=False).encode()


def _parse_rule(told: Mapping[str, Any]) -> Rule:
    spans = {
        name: Bounds(**{bound: _span(told.get(prefix + suffix)) for bound, suffix in _BOUNDS.items()})
        for name, prefix in _SPANS.items()
    }
    rule = Rule(told.get("owner"), told.get("owner_prefix"), told.get("session_prefix"), **spans)
    if unknown := told.keys() - _told(rule).keys():
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")  # it could be what narrows the rule
    return rule


def _told(rule: Rule) -> dict[str, Any]:
    told = {name: getattr(rule, name) for name in _MATCHERS}
    for name, prefix in _SPANS.items():
        for bound, suffix in _BOUNDS.items():
            span = getattr(getattr(rule, name), bound)
            told[prefix + suffix] = None if span is None else int(span.total_seconds())
    return {name: value for name, value in told.items() if value is not None}


def _span(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
