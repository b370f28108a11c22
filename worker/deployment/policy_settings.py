"""The rules of TORPOR_POLICIES as settings; `Policies` of torpor.history has them as applications get them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from torpor.history.protocol import Policies

WholeSeconds = Annotated[int, Field(ge=1, le=3_153_600_000)]


class PolicySettings(BaseModel):
    """One rule: the sessions that it is for, and the spans that it gives and allows them, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    owner: Annotated[str, Field(min_length=1)] | None = None
    owner_prefix: str | None = None
    session_prefix: str | None = None
    idle_timeout_seconds: WholeSeconds | None = None
    idle_timeout_min_seconds: WholeSeconds | None = None
    idle_timeout_max_seconds: WholeSeconds | None = None
    max_age_seconds: WholeSeconds | None = None
    max_age_min_seconds: WholeSeconds | None = None
    max_age_max_seconds: WholeSeconds | None = None
    archive_retention_seconds: WholeSeconds | None = None
    archive_retention_min_seconds: WholeSeconds | None = None
    archive_retention_max_seconds: WholeSeconds | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = [fault for span in ("idle_timeout", "max_age", "archive_retention") for fault in self._faults(span)]
        if self.owner is None and self.owner_prefix is None and self.session_prefix is None:
            faults.insert(0, "it needs owner, owner_prefix or session_prefix")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self, span: str) -> Iterator[str]:
        default, least, most = (getattr(self, f"{span}{suffix}_seconds") for suffix in ("", "_min", "_max"))
        if least and most and least > most:
            yield f"{span}_min_seconds is above {span}_max_seconds"
        elif default and default < (least or default):
            yield f"{span}_seconds is below {span}_min_seconds"
        elif default and default > (most or default):
            yield f"{span}_seconds is above {span}_max_seconds"


def read_rules(value: Any) -> Any:
    """Rules from an argument or, as JSON, from the environment; raises ValueError unless they are a list."""
    if value is None:
        return None
    try:
        rules = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        rules = None
    if not isinstance(rules, list | tuple):
        raise ValueError("must be a list of rules in JSON")  # noqa: TRY004 - pydantic takes a ValueError
    return rules


def write_rules(rules: Sequence[PolicySettings]) -> str:
    """Rules as the JSON that `read_rules` reads."""
    return json.dumps([rule.model_dump(exclude_none=True) for rule in rules])


@lru_cache(maxsize=16)
def policies_of(rules: tuple[PolicySettings, ...]) -> Policies:
    """The policies that are made of rules."""
    return Policies.parse(write_rules(rules).encode())
