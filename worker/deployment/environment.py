"""Reading a class of settings from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from torpor.worker.errors import SettingsError

PREFIX = "TORPOR_"
# The console has a settings class of its own, with this prefix.
CONSOLE_PREFIX = "TORPOR_CONSOLE_"
# Kubernetes sets these in each pod beside a service with the name torpor.
_OF_KUBERNETES = re.compile(r"TORPOR_(SERVICE_|PORT$|PORT_)")
_MESSAGES = {"missing": "is required", "extra_forbidden": "there is no such setting"}
S = TypeVar("S", bound=BaseSettings)


def load_all(
    model: type[S], prefix: str, overrides: Mapping[str, Any] | None = None, *, others: tuple[str, ...] = ()
) -> S:
    """The settings of a class whose variables have this prefix; those with one of the `others` are not its own.

    Raises SettingsError, which names every wrong value and every unknown variable at once.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    known = {prefix + name.upper() for name in model.model_fields}
    faults = [
        f"{name}: there is no such setting"
        for name in sorted(os.environ)
        if name.upper().startswith(prefix)
        and not name.upper().startswith(others)
        and name.upper() not in known
        and not _OF_KUBERNETES.match(name)
    ]
    try:
        settings = model(**given)
    except ValidationError as exc:
        faults += [_fault(prefix, error) for error in exc.errors(include_url=False, include_context=False)]
        settings = None
    if faults or settings is None:
        raise SettingsError("wrong settings:\n" + "\n".join(f"  {fault}" for fault in faults))
    return settings


def _fault(prefix: str, error: Any) -> str:
    message = _MESSAGES.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # of several settings together
        return str(message)
    setting, *inside = error["loc"]
    name = prefix + str(setting).upper()
    place = "".join(f"rule {part + 1}: " if isinstance(part, int) else f"{part}: " for part in inside)
    return f"{name}: {place}{message}"
