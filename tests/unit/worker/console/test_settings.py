"""The settings of the console: each fault is named with its variable, and nobody has a role by accident."""

from __future__ import annotations

from typing import Any

import pytest

from torpor.worker.console.roles import Role
from torpor.worker.console.settings import ConsoleSettings, load_console_settings
from torpor.worker.deployment.environment import CONSOLE_PREFIX
from torpor.worker.deployment.settings import load_settings
from torpor.worker.errors import SettingsError

SECRET = "s" * 32
IAP = {
    "SIGN_IN": "iap",
    "URL": "https://torpor.example.com",
    "SECRET": SECRET,
    "IAP_AUDIENCE": "/projects/123/global/backendServices/456",
    "OFFICERS": "dpo@example.com",
}
OIDC = {
    "SIGN_IN": "oidc",
    "URL": "https://torpor.example.com/",
    "SECRET": SECRET,
    "OIDC_ISSUER": "https://accounts.google.com",
    "OIDC_CLIENT_ID": "id",
    "OIDC_CLIENT_SECRET": "hush-hush",
    "VIEWERS": "@example.com",
}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets variables of the console, without their prefix."""

    def set_all(given: dict[str, str]) -> None:
        for name, value in given.items():
            monkeypatch.setenv(CONSOLE_PREFIX + name, value)

    return set_all


def faults() -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_console_settings()
    return [line.strip().removeprefix(CONSOLE_PREFIX) for line in str(raised.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"HOST": "0.0.0.0"}, ["HOST: must be 127.0.0.1"]),
        ({"URL": "https://torpor.example.com"}, ["URL: must be of this machine"]),
        ({"HOST": "10.0.0.1", "URL": "https://x.example"}, ["HOST: ", "URL: "]),
        ({"SIGN_IN": "password"}, ["SIGN_IN: "]),
        ({"PORT": "70000", "SEARCH_RATE": "0"}, ["PORT: ", "SEARCH_RATE: "]),
        ({"PORTT": "1"}, ["PORTT: there is no such setting"]),
        ({"SECRET": "short"}, ["SECRET: must have at least 32 characters"]),
        ({"URL": "http://torpor.example.com"}, ["URL: must begin with https://"]),
        ({"URL": "https://torpor.example.com/console"}, ["URL: must be a URL without a path"]),
        ({"URL": "https://ann:hush@torpor.example.com"}, ["URL: must be a URL such as"]),
        ({"URL": "torpor.example.com"}, ["URL: must be a URL such as"]),
        ({"OIDC_ISSUER": "http://accounts.example.com"}, ["OIDC_ISSUER: must begin with https://"]),
        ({"IAP_AUDIENCE": "456"}, ["IAP_AUDIENCE: "]),
        ({"VIEWERS": "@example.com, example.com"}, ["VIEWERS: 'example.com' is neither"]),
        ({"OFFICERS": "*"}, ["OFFICERS: '*' is neither"]),
        ({"READERS": "@"}, ["READERS: '@' is neither"]),
        ({"READERS": "Ann<ann@example.com>"}, ["READERS: 'Ann<ann@example.com>' is neither"]),
        ({"SIGN_IN": "iap"}, ["URL: is required", "SECRET: is", "IAP_AUDIENCE: is", "VIEWERS: nobody"]),
        (
            {"SIGN_IN": "oidc", "OFFICERS": "dpo@example.com"},
            ["URL: is", "SECRET: is", "OIDC_ISSUER: is", "OIDC_CLIENT_ID: is", "OIDC_CLIENT_SECRET: is"],
        ),
    ],
)
def test_every_fault_is_named_with_its_variable(variables: Any, given: dict[str, str], named: list[str]) -> None:
    variables(given)
    found = faults()
    assert len(found) == len(named), found
    assert all(fault.startswith(name) for fault, name in zip(found, named, strict=True)), found
    assert "hush" not in str(found)


@pytest.mark.parametrize("given", [IAP, OIDC], ids=["iap", "oidc"])
def test_each_setting_that_a_way_to_sign_in_needs_is_required(variables: Any, given: dict[str, str]) -> None:
    variables(given)
    load_console_settings()
    for name, value in given.items():
        if name != "SIGN_IN":
            variables({name: ""})
            [fault] = faults()
            assert fault.startswith("VIEWERS" if name in {"OFFICERS", "VIEWERS"} else name)
            variables({name: value})


def test_no_secret_is_in_a_repr(variables: Any) -> None:
    variables(OIDC)
    assert SECRET not in repr(load_console_settings())
    assert "hush" not in repr(load_console_settings())


def test_a_worker_leaves_the_variables_of_the_console_alone(variables: Any) -> None:
    variables({**OIDC, "PORTT": "1"})
    assert load_settings({"archive_url": "file:///nowhere"}).archive_url == "file:///nowhere"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Torpor.Example.com", "torpor.example.com"),
        ("https://torpor.example.com:8443/", "torpor.example.com:8443"),
    ],
)
def test_only_the_name_of_its_url_is_answered(url: str, host: str) -> None:
    settings = ConsoleSettings.model_validate({**{name.lower(): value for name, value in IAP.items()}, "url": url})
    assert settings.hosts == frozenset({host})
    assert settings.origins == frozenset({f"https://{host}"})


def test_without_a_url_only_names_of_this_machine_are_answered() -> None:
    assert ConsoleSettings(port=9).hosts == {"127.0.0.1:9", "localhost:9", "[::1]:9"}


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("ann@example.com", {Role.VIEWER, Role.OFFICER}),
        ("ANN@EXAMPLE.COM", {Role.VIEWER, Role.OFFICER}),
        ("bob@example.com", {Role.VIEWER}),
        ("kim@other.example", {Role.READER}),
        ("ann@other.example", set()),
        ("ann@sub.example.com", set()),
        ("ann@example.com.evil.example", set()),
        ("ann@evil.example@example.com", set()),
        ("@example.com", set()),
        ("example.com", set()),
        ("", set()),
        ("ann@example.com ", set()),
        ("ann@example.com\n", set()),
        ("x:ann@example.com", set()),
        ("\u212aim@other.example", set()),  # the sign for Kelvin, whose lower case is k
        ("bob@\u212aexample.com", set()),
    ],
)
def test_a_role_is_an_address_s_or_a_whole_domain_s_whatever_the_case(name: str, roles: set[Role]) -> None:
    lists = {"viewers": "@Example.com", "officers": "Ann@Example.com", "readers": "Kim@Other.Example zoë@other.example"}
    settings = ConsoleSettings.model_validate(lists)
    assert settings.roles_of(name) == roles


def test_an_address_with_other_letters_is_itself_alone() -> None:
    settings = ConsoleSettings.model_validate({"readers": "zoë@example.com"})
    assert settings.roles_of("zoë@example.com") == {Role.READER}
    assert settings.roles_of("zoe@example.com") == set()
