"""The console's settings: who may sign in, how, and where it listens."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from torpor.worker.console.roles import Role
from torpor.worker.deployment.settings import CONSOLE_PREFIX, load_all

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SECRET_LENGTH = 32


class SignInKind(StrEnum):
    """How people say who they are."""

    TOKEN = "token"  # noqa: S105 - the name of a way, not a secret
    IAP = "iap"
    OIDC = "oidc"


def _names(value: Any) -> Any:
    """Names separated by commas or spaces."""
    return frozenset(value.replace(",", " ").split()) if isinstance(value, str) else value


def _url(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    is_local = parts.hostname in _LOOPBACK
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError("must be a URL without a path, such as https://torpor.example.com")
    if parts.scheme == "http" and not is_local:
        raise ValueError("must begin with https://")
    return f"{parts.scheme}://{parts.netloc}"


def _secret(secret: SecretStr | None) -> SecretStr | None:
    if secret and len(secret.get_secret_value()) < _SECRET_LENGTH:
        raise ValueError(f"must have at least {_SECRET_LENGTH} characters")
    return secret


_Names = Annotated[frozenset[str], NoDecode, BeforeValidator(_names)]


class ConsoleSettings(BaseSettings):
    """Every setting of the console, read from `TORPOR_CONSOLE_<NAME>`. `repr` shows no secret."""

    model_config = SettingsConfigDict(
        env_prefix=CONSOLE_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, env_ignore_empty=True
    )

    host: str = Field(default="127.0.0.1", description="The address on which it listens.")
    port: int = Field(default=8765, ge=0, le=65_535, description="The port on which it listens.")
    sign_in: SignInKind = Field(
        default=SignInKind.TOKEN,
        description="How people sign in: token (this machine only), iap or oidc.",
    )
    url: Annotated[str | None, AfterValidator(_url)] = Field(
        default=None,
        description="The address in people's browsers, such as https://torpor.example.com.",
    )
    secret: Annotated[SecretStr | None, AfterValidator(_secret)] = Field(
        default=None,
        description="At least 32 random characters that sign cookies; the same for all processes of the console.",
    )
    viewers: _Names = Field(default=frozenset(), description="Who may see figures and ids: addresses, or @example.com.")
    readers: _Names = Field(default=frozenset(), description="Who may also read text.")
    officers: _Names = Field(default=frozenset(), description="Who may also hold, give copies and erase.")
    operators: _Names = Field(default=frozenset(), description="Who may see figures and ids, and repair.")
    search_rate: float = Field(
        default=2_000, ge=1, allow_inf_nan=False, description="Sessions a second that a search may look at."
    )

    @model_validator(mode="after")
    def _check(self) -> ConsoleSettings:
        if self.sign_in is SignInKind.TOKEN:
            if self.host not in _LOOPBACK:
                raise ValueError(
                    f"{CONSOLE_PREFIX}HOST must be 127.0.0.1 unless {CONSOLE_PREFIX}SIGN_IN is iap or oidc"
                )
            return self
        if self.url is None:
            raise ValueError(f"{CONSOLE_PREFIX}URL is required with {CONSOLE_PREFIX}SIGN_IN={self.sign_in}")
        if not (self.viewers or self.readers or self.officers or self.operators):
            raise ValueError(f"nobody has a role: set {CONSOLE_PREFIX}VIEWERS, READERS, OFFICERS or OPERATORS")
        return self

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the Host header that are answered."""
        if self.url:
            return frozenset({urlsplit(self.url).netloc})
        return frozenset({f"{host}:{self.port}" for host in ("127.0.0.1", "localhost", "[::1]")})

    def roles_of(self, name: str) -> frozenset[Role]:
        """The roles of an email address, or of everybody at its domain."""
        name = name.lower()
        at_domain = name[name.rfind("@") :] if "@" in name else name
        lists = {
            Role.VIEWER: self.viewers,
            Role.READER: self.readers,
            Role.OFFICER: self.officers,
            Role.OPERATOR: self.operators,
        }
        return frozenset(
            role for role, listed in lists.items() if {name, at_domain} & {each.lower() for each in listed}
        )


def load_console_settings(overrides: Mapping[str, Any] | None = None) -> ConsoleSettings:
    """The settings from the environment; `overrides` come first. Raises SettingsError, which names every fault."""
    return load_all(ConsoleSettings, CONSOLE_PREFIX, overrides)
