"""The console's settings: who may sign in, how, and where it listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from torpor.worker.console import addresses
from torpor.worker.console.roles import Role
from torpor.worker.deployment.environment import CONSOLE_PREFIX, load_all

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SECRET_LENGTH = 32
# What Identity-Aware Proxy signs for: https://cloud.google.com/iap/docs/signed-headers-howto
_AUDIENCE = r"^/projects/\d+/[\w./:-]+$"


class SignInKind(StrEnum):
    """How people say who they are."""

    TOKEN = "token"  # noqa: S105 - the name of a way, not a secret
    IAP = "iap"
    OIDC = "oidc"


# What each way to sign in needs, without the prefix of the variables.
_NEEDS = {
    SignInKind.TOKEN: (),
    SignInKind.IAP: ("url", "secret", "iap_audience"),
    SignInKind.OIDC: ("url", "secret", "oidc_issuer", "oidc_client_id", "oidc_client_secret"),
}


def _origin(url: str | None) -> str | None:
    """The URL of a host, without a slash at its end."""
    if url is None:
        return None
    parts = _parts(url)
    if parts.path not in ("", "/"):
        raise ValueError("must be a URL without a path, such as https://torpor.example.com")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _issuer(url: str | None) -> str | None:
    if url is not None:
        _parts(url)
    return url


def _parts(url: str) -> SplitResult:
    """The parts of a URL; http is for this machine alone."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or "@" in url:
        raise ValueError("must be a URL such as https://torpor.example.com")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("must begin with https://")
    return parts


def _secret(secret: SecretStr | None) -> SecretStr | None:
    if secret and len(secret.get_secret_value()) < _SECRET_LENGTH:
        raise ValueError(f"must have at least {_SECRET_LENGTH} characters")
    return secret


_Names = Annotated[frozenset[str], NoDecode, BeforeValidator(addresses.listed), AfterValidator(addresses.checked)]


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
    url: Annotated[str | None, AfterValidator(_origin)] = Field(
        default=None,
        description="The address in people's browsers, such as https://torpor.example.com; needed with iap and oidc.",
    )
    secret: Annotated[SecretStr | None, AfterValidator(_secret)] = Field(
        default=None,
        description="At least 32 random characters that sign cookies; the same for all processes of the console. "
        "Needed with iap and oidc.",
    )
    iap_audience: str | None = Field(
        default=None,
        pattern=_AUDIENCE,
        description="Whom Identity-Aware Proxy must have signed for, such as "
        "/projects/123/global/backendServices/456; needed with iap.",
    )
    oidc_issuer: Annotated[str | None, AfterValidator(_issuer)] = Field(
        default=None, description="The identity provider, such as https://accounts.google.com; needed with oidc."
    )
    oidc_client_id: str | None = Field(
        default=None, description="The console's id at the identity provider; needed with oidc."
    )
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="The console's secret at the identity provider; needed with oidc."
    )
    viewers: _Names = Field(default=frozenset(), description="Who may see figures and ids: addresses, or @example.com.")
    readers: _Names = Field(default=frozenset(), description="Who may also read text.")
    officers: _Names = Field(default=frozenset(), description="Who may also hold, give copies and erase.")
    operators: _Names = Field(default=frozenset(), description="Who may see figures and ids, and repair.")
    contact: str = Field(
        default="the people who run this console",
        description="Whom somebody without a role must ask, as the page says it.",
    )
    search_rate: float = Field(
        default=2_000, ge=1, allow_inf_nan=False, description="Sessions a second that a search may look at."
    )

    @model_validator(mode="after")
    def _check(self) -> ConsoleSettings:
        if faults := [*self._faults()]:
            raise ValueError("\n  ".join(faults))  # SettingsError lists one in each line
        return self

    def _faults(self) -> Iterator[str]:
        """What is wrong with the settings together."""
        way = f"{CONSOLE_PREFIX}SIGN_IN={self.sign_in}"
        for name in _NEEDS[self.sign_in]:
            if not getattr(self, name):
                yield f"{CONSOLE_PREFIX}{name.upper()}: is required with {way}"
        if self.sign_in is SignInKind.TOKEN:
            if self.host not in _LOOPBACK:
                yield f"{CONSOLE_PREFIX}HOST: must be 127.0.0.1 with {way}"
            if self.url and urlsplit(self.url).hostname not in _LOOPBACK:
                yield f"{CONSOLE_PREFIX}URL: must be of this machine, such as http://localhost:9000, with {way}"
        elif not (self.viewers or self.readers or self.officers or self.operators):
            yield f"{CONSOLE_PREFIX}VIEWERS: nobody has a role; set it, or READERS, OFFICERS or OPERATORS"

    @property
    def origins(self) -> frozenset[str]:
        """The addresses at which browsers find the console: scheme, host, and port."""
        if self.url:
            return frozenset({self.url})
        return frozenset({f"http://{host}:{self.port}" for host in ("127.0.0.1", "localhost", "[::1]")})

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the Host header that are answered."""
        return frozenset({urlsplit(origin).netloc for origin in self.origins})

    @property
    def is_encrypted(self) -> bool:
        """True if browsers come by https."""
        return bool(self.url and self.url.startswith("https:"))

    def roles_of(self, name: str) -> frozenset[Role]:
        """The roles of an email address: its own, and those of everybody at its domain."""
        known = addresses.matching(name)
        lists = {
            Role.VIEWER: self.viewers,
            Role.READER: self.readers,
            Role.OFFICER: self.officers,
            Role.OPERATOR: self.operators,
        }
        return frozenset(role for role, listed in lists.items() if known & listed)


def load_console_settings(overrides: Mapping[str, Any] | None = None) -> ConsoleSettings:
    """The settings from the environment; `overrides` come first. Raises SettingsError, which names every fault."""
    return load_all(ConsoleSettings, CONSOLE_PREFIX, overrides)
