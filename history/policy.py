"""Policies: a deployment's rules for how long sessions may be idle, stay in Redis and be kept in the archive.

Their JSON is a list of rules with the names of TORPOR_POLICIES; all spans are whole seconds:
[{"owner_prefix": "guest-", "idle_timeout_max_seconds": 900, "archive_retention_seconds": 86400}, ...]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from torpor.history.errors import PoliciesUnreadable
from torpor.history.expiry import Expiry

_MATCHERS = ("owner", "owner_prefix", "session_prefix")
# A name in JSON is the prefix of a field of Rule and the suffix of a field of Bounds.
_SPANS = {"idle": "idle_timeout", "max_age": "max_age", "retention": "archive_retention"}
_BOUNDS = {"default": "_seconds", "least": "_min_seconds", "most": "_max_seconds"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """A rule's bounds of one span: its default, and the least and the most that an application can ask for."""

    default: timedelta | None = None
    least: timedelta | None = None
    most: timedelta | None = None

    def __bool__(self) -> bool:
        return self != Bounds()

    def resolve(self, own: timedelta | None, otherwise: timedelta | None) -> timedelta | None:
        """The span in force: the application's own, else the default, else `otherwise`, moved into the bounds.

        None means for ever; only `most` makes it shorter.
        """
        span = own or self.default or otherwise
        if span is None:
            return self.most
        span = max(span, self.least or span)
        return min(span, self.most or span)


@dataclass(frozen=True, slots=True)
class Rule:
    """The bounds for the sessions that match every given one of owner, owner's prefix and session's prefix.

    An empty prefix matches every owner, or every session. A session without an owner matches no owner and no owner's
    prefix.
    """

    owner: str | None = None
    owner_prefix: str | None = None
    session_prefix: str | None = None
    idle: Bounds = Bounds()
    max_age: Bounds = Bounds()
    retention: Bounds = Bounds()

    def matches(self, session_id: str, owner: str | None) -> bool:
        """True if the rule applies to this session."""
        if self.owner is not None and owner != self.owner:
            return False
        if self.owner_prefix is not None and (owner is None or not owner.startswith(self.owner_prefix)):
            return False
        return session_id.startswith(self.session_prefix or "")


@dataclass(frozen=True, slots=True)
class Policies:
    """The rules of a deployment; the first rule that matches a session applies to it."""

    rules: tuple[Rule, ...] = ()

    @property
    def need_owner(self) -> bool:
        """True if the rule for a session can depend on its owner."""
        return any(rule.owner is not None or rule.owner_prefix is not None for rule in self.rules)

    def rule(self, session_id: str, owner: str | None) -> Rule:
        """The rule that applies to a session; a rule without bounds if none matches."""
        return next((rule for rule in self.rules if rule.matches(session_id, owner)), Rule())

    def resolve(self, session_id: str, owner: str | None, own: Expiry, otherwise: Expiry) -> Expiry:
        """The expiry of a session for which an application asks for `own`; `otherwise` is the deployment's default.

        A span without bounds in the rule stays as the application asks for it. So does the retention, because the
        worker resolves it when it archives.
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
        """How long the archive keeps a session after its last activity; None means for ever."""
        return self.rule(session_id, owner).retention.resolve(own, otherwise)

    @classmethod
    def parse(cls, text: bytes) -> Policies:
        """The policies in a JSON text; raises PoliciesUnreadable."""
        try:
            return cls(tuple(map(_parse_rule, json.loads(text))))
        except (ValueError, TypeError, AttributeError, OverflowError) as exc:
            raise PoliciesUnreadable(
                "the policies that are recorded for this deployment can't be read: upgrade this side to the worker's "
                f"version, or restart the worker, which records them anew ({exc})"
            ) from exc

    def __bytes__(self) -> bytes:
        return json.dumps([_to_json(rule) for rule in self.rules], ensure_ascii=False).encode()


def _parse_rule(written: Mapping[str, Any]) -> Rule:
    spans = {
        name: Bounds(**{bound: _span(written.get(prefix + suffix)) for bound, suffix in _BOUNDS.items()})
        for name, prefix in _SPANS.items()
    }
    rule = Rule(written.get("owner"), written.get("owner_prefix"), written.get("session_prefix"), **spans)
    if unknown := written.keys() - _to_json(rule).keys():
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")  # it could narrow the rule
    return rule


def _to_json(rule: Rule) -> dict[str, Any]:
    written = {name: getattr(rule, name) for name in _MATCHERS}
    for name, prefix in _SPANS.items():
        for bound, suffix in _BOUNDS.items():
            span = getattr(getattr(rule, name), bound)
            written[prefix + suffix] = None if span is None else int(span.total_seconds())
    return {name: value for name, value in written.items() if value is not None}


def _span(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
