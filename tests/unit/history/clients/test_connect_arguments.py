"""`connect` refuses wrong arguments at once, before it opens a connection, and its errors have no secret."""

from __future__ import annotations

import re
import socket
import ssl
from functools import partial
from pathlib import Path
from ssl import VerifyMode
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
from redis.credentials import UsernamePasswordCredentialProvider

from support.paths import ROOT
from support.tls import intermediate, make_authority
from support.tokens import Tokens
from torpor.history.protocol import InvalidArgument, connect, is_instances_own
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.settings import load_settings

SECRET = "hunter2secret"
EVERY_CLIENT = [{"cluster": cluster, "asynchronous": asynchronous} for cluster in (0, 1) for asynchronous in (0, 1)]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def refusal(url: Any, **options: Any) -> str:
    """The error for these arguments, which must not have the secret."""
    with pytest.raises(InvalidArgument) as caught:
        connect(url, **options)
    chain: BaseException | None = caught.value
    while chain:
        assert SECRET not in f"{chain} {chain!r}"
        chain = None if chain.__suppress_context__ else chain.__cause__ or chain.__context__
    return str(caught.value)


@pytest.mark.parametrize("client", EVERY_CLIENT, ids=str)
@pytest.mark.parametrize(
    "url",
    [
        None,
        b"redis://localhost",
        "",
        "localhost:6379",
        f"http://:{SECRET}@localhost",
        f"redis://:{SECRET}@localhost:port/0",
        f"redis://:{SECRET}/x@localhost:6379/0",
        f"redis://:x?{SECRET}=1@localhost:6379/0",
        f"redis://:{SECRET}@[localhost",
        f"redis://localhost/0?socket_timeout={SECRET}",
        f"redis://:{SECRET}@localhost/0?ssl_ca_certs=ca.pem",
        f"rediss://:{SECRET}@localhost/0?ssl_cert_reqs=perhaps",
    ],
)
def test_a_wrong_url_is_refused(url: Any, client: dict[str, Any]) -> None:
    assert refusal(url, **client).startswith("the URL must be redis://, rediss:// or unix://")


@pytest.mark.parametrize("client", EVERY_CLIENT, ids=str)
def test_an_option_that_there_is_not_is_named(client: dict[str, Any]) -> None:
    assert "bogus" in refusal(f"redis://:{SECRET}@localhost", bogus=1, **client)


def test_an_option_that_an_asyncio_cluster_has_not_got_is_named() -> None:
    options = {"cluster": True, "asynchronous": True, "ssl_ca_path": "/etc/ssl"}
    assert "ssl_ca_path" in refusal(f"rediss://:{SECRET}@localhost", **options)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    "url", [f"redis://:{SECRET}@localhost:6379/1", f"unix://:{SECRET}@/run/redis.sock", f"redis://:{SECRET}@"]
)
def test_a_cluster_has_a_host_one_database_and_no_unix_socket(url: str, asynchronous: bool) -> None:  # noqa: FBT001
    assert refusal(url, cluster=True, asynchronous=asynchronous).startswith("the URL of a Cluster needs a host")


@pytest.mark.parametrize("url", [f"redis://:{SECRET}@localhost", f"unix://:{SECRET}@/run/redis.sock"])
def test_a_ca_file_is_for_encrypted_connections(url: str, tmp_path: Path) -> None:
    assert refusal(url, ca_file=tmp_path / "ca.pem") == "ca_file needs a rediss:// URL"


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\x00"])
def test_a_ca_file_holds_certificates(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    for given in (path, str(path)):
        assert refusal("rediss://localhost", ca_file=given).startswith("ca_file must be a file of certificates in PEM")
    assert refusal("rediss://localhost", ca_file=tmp_path).startswith("ca_file must be a file")
    assert refusal("rediss://localhost", ca_file=7.5).startswith("ca_file must be a file")


@pytest.mark.parametrize("url", ["redis://localhost", "unix:///run/redis.sock"])
def test_a_token_is_only_sent_over_encrypted_connections(url: str) -> None:
    for iam in (True, Tokens()):
        assert refusal(url, iam=iam).startswith("iam needs a rediss:// URL")


@pytest.mark.parametrize("client", EVERY_CLIENT, ids=str)
@pytest.mark.parametrize("wanted", ["none", "optional", VerifyMode.CERT_NONE, VerifyMode.CERT_OPTIONAL, None])
def test_a_token_is_sent_to_no_server_that_shows_no_certificate(wanted: Any, client: dict[str, Any]) -> None:
    for iam in (True, Tokens()):
        assert refusal("rediss://localhost", iam=iam, ssl_cert_reqs=wanted, **client).startswith("iam needs ssl_cert_")
        if isinstance(wanted, str):
            url = f"rediss://localhost?ssl_cert_reqs={wanted}"
            for given in ({}, {"ssl_cert_reqs": "required"}):  # the URL counts
                assert refusal(url, iam=iam, **given, **client).startswith("iam needs ssl_cert_reqs=required")


def test_a_token_is_sent_to_no_server_with_a_certificate_for_another_name(tmp_path: Path) -> None:
    ways: list[tuple[str, dict[str, Any]]] = [
        ("rediss://localhost?ssl_check_hostname=false", {}),
        ("rediss://localhost", {"ssl_check_hostname": False}),
    ]
    for url, options in ways:
        assert refusal(url, iam=Tokens(), **options).startswith("iam without ssl_check_hostname needs a ca_file")
        connect(url, iam=Tokens(), ca_file=make_authority(tmp_path / str(len(options))).file, **options)


@pytest.mark.parametrize(
    ("files", "public", "names"),
    [
        (["one"], [], False),
        (["one", "one"], [], False),
        (["one", "two"], [], True),
        (["one"], ["one"], True),
        (["one"], ["two"], False),
    ],
)
@pytest.mark.parametrize("client", EVERY_CLIENT[:2] + EVERY_CLIENT[3:], ids=str)
def test_names_are_checked_unless_the_file_has_the_instances_own_authority_alone(  # noqa: PLR0917
    files: list[str],
    public: list[str],
    names: bool,  # noqa: FBT001
    client: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    made = {name: make_authority(tmp_path / name).file.read_bytes() for name in ("one", "two")}
    (tmp_path / "system").mkdir()
    for name in public:
        (tmp_path / "system" / f"{name}.crt").write_bytes(made[name])
    paths = ssl.get_default_verify_paths()._replace(cafile="", capath=str(tmp_path / "system"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(b"".join(made[name] for name in files))

    def checked(url: str, **options: Any) -> bool:
        made: Any = connect(url, ca_file=ca_file, **options, **client)
        kwargs = made.connection_kwargs if client["cluster"] else made.connection_pool.connection_kwargs
        return bool(kwargs["ssl_check_hostname"])

    assert checked("rediss://localhost") == names
    assert ("host names are checked, unless" in caplog.text) == names
    assert not checked("rediss://localhost?ssl_check_hostname=false")
    assert not checked("rediss://localhost", ssl_check_hostname=False)
    assert checked("rediss://localhost?ssl_check_hostname=true")


def test_an_authority_with_its_chain_is_one(tmp_path: Path) -> None:
    chain, root = tmp_path / "chain.pem", make_authority(tmp_path / "root")
    issued = intermediate(root)
    chain.write_bytes(issued + root.file.read_bytes())
    assert is_instances_own(chain)
    chain.write_bytes(issued + root.file.read_bytes() + make_authority(tmp_path / "another").file.read_bytes())
    assert not is_instances_own(chain)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_ca_data", "ssl_ca_path"])
def test_a_ca_file_takes_the_place_of_other_authorities(option: str, tmp_path: Path) -> None:
    ca_file = make_authority(tmp_path / "one").file
    assert refusal("rediss://localhost", ca_file=ca_file, **{option: "x"}).startswith("ca_file takes the place of")
    assert refusal(f"rediss://localhost?{option}=x", ca_file=ca_file).startswith("ca_file takes the place of")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"rediss://:{SECRET}@localhost", {}),
        ("rediss://ann@localhost", {}),
        (f"rediss://localhost?password={SECRET}", {}),
        ("rediss://localhost", {"password": SECRET}),
        ("rediss://localhost", {"credential_provider": UsernamePasswordCredentialProvider("ann", SECRET)}),
    ],
)
def test_a_token_takes_the_place_of_a_password(url: str, options: dict[str, Any]) -> None:
    assert refusal(url, iam=Tokens(), **options).startswith("iam takes the place of")


@pytest.mark.parametrize("iam", ["yes", 1, object()])
def test_iam_is_true_or_a_source(iam: Any) -> None:
    assert refusal("rediss://localhost", iam=iam).startswith("iam must be True, or an object with")


def test_a_credential_provider_is_not_given_by_its_name() -> None:
    named = f"rediss://localhost?credential_provider=torpor.application_default&client_name={SECRET}"
    assert refusal(named).startswith("a credential provider can't be given by its name")


def test_a_password_and_a_credential_provider_do_not_fit_each_other() -> None:
    provider = UsernamePasswordCredentialProvider("ann", SECRET)
    assert "cannot be passed along" in refusal(f"rediss://:{SECRET}@localhost", credential_provider=provider)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    "url", [f"redis://:{SECRET}@localhost/3", f"rediss://:{SECRET}@localhost", "unix:///redis.sock"]
)
def test_what_is_right_makes_a_client_that_does_not_show_its_password(url: str, asynchronous: bool) -> None:  # noqa: FBT001
    client: Any = connect(url, asynchronous=asynchronous)  # type: ignore[call-overload]
    assert isinstance(client, redis.asyncio.Redis if asynchronous else redis.Redis)
    retry = client.connection_pool.connection_kwargs["retry"]
    assert type(retry).__module__ == ("redis.asyncio.retry" if asynchronous else "redis.retry")
    assert SECRET not in f"{client!r} {client.connection_pool!r}"


def test_an_asyncio_client_of_a_cluster_is_made_without_asking_for_its_nodes() -> None:
    client = connect(f"rediss://:{SECRET}@localhost", cluster=True, asynchronous=True)
    assert isinstance(client, redis.asyncio.cluster.RedisCluster)
    assert type(client.retry).__module__ == "redis.asyncio.retry"
    assert SECRET not in repr(client)


def test_the_ways_to_connect_in_the_docs_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_authority(tmp_path / "instance").folder)
    page = (ROOT / "docs" / "connecting.md").read_text()
    [broker] = re.findall(r"^TORPOR_BROKER_URL='(.*)'$", page, re.MULTILINE)
    rows = re.findall(r"^\| .* \| `(connect\(.*\))` \| `(TORPOR_REDIS_URL=.*)` \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for call, variables in rows:
        given = dict(each.removeprefix("TORPOR_").split("=", 1) for each in variables.split("` `"))
        overrides = {name.lower(): value.replace("...", broker) for name, value in given.items()}
        overrides["archive_url"] = "file:///archive"
        settings = load_settings(overrides)
        client = eval(call, {"connect": partial(connect, asynchronous=True)})
        assert isinstance(client, redis.asyncio.cluster.RedisCluster) == settings.redis_cluster
        ssl = make_app(partial(load_settings, overrides), set_as_current=False).connection_for_write().ssl
        assert bool(ssl) == settings.celery_broker.startswith("rediss://")
        assert not ssl or (ssl["ssl_cert_reqs"], "ssl_ca_certs" in ssl) == (VerifyMode.CERT_REQUIRED, True)
