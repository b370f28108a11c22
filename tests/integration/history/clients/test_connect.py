"""Connecting as Google's documents advise: AUTH, TLS with the instance's CA, and IAM tokens, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.exceptions
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.compose import archived, image
from support.ports import free_port
from support.tls import HOST, Authority, EncryptedServer, encrypted_cluster, make_authority, start_encrypted
from support.tokens import Tokens, metadata_server
from support.waiting import scaled, wait_until
from torpor import MemorystoreChatMessageHistory, application_default
from torpor.history.protocol import RedisUnavailable, SessionStore, TransientError, connect
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import connect as connect_services
from torpor.worker.deployment.settings import load_settings

pytestmark = pytest.mark.slow

PASSWORD = "hunter2secret"
ONCE = Retry(NoBackoff(), 0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls") / "instance")


@pytest.fixture(scope="module")
def running(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedServer]:
    server = start_encrypted(tmp_path_factory.mktemp("encrypted"), authority)
    yield server
    server.plain.stop()


@pytest.fixture
def server(running: EncryptedServer) -> EncryptedServer:
    """A server with TLS that lets in who has PASSWORD."""
    running.allow(PASSWORD)
    with running.plain.client() as admin:
        admin.flushall()
    return running


@pytest.fixture(scope="module")
def running_nodes(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[EncryptedServer]]:
    with encrypted_cluster(tmp_path_factory.mktemp("cluster"), authority) as nodes:
        yield nodes


@pytest.fixture
def nodes(running_nodes: Sequence[EncryptedServer]) -> Sequence[EncryptedServer]:
    """The nodes of a Cluster with TLS that let in who has PASSWORD."""
    for node in running_nodes:
        node.allow(PASSWORD)
        with node.plain.client() as admin:
            admin.flushall()
    return running_nodes


def wrong_authority(tmp_path: Path) -> Path:
    return make_authority(tmp_path / "another").file


def test_a_client_of_an_instance_with_auth_and_tls_writes_and_reads_a_session(server: EncryptedServer) -> None:
    with connect(server.url(PASSWORD), ca_file=server.authority.file) as client:
        MemorystoreChatMessageHistory(client, "s", 3600).add_user_message("hello")
        assert [each.content for each in MemorystoreChatMessageHistory(client, "s").messages] == ["hello"]
        assert "ssl" in type(next(iter(client.connection_pool._available_connections))._sock).__module__


def test_an_asyncio_client_does_too(server: EncryptedServer) -> None:
    async def talk() -> Any:
        async with connect(server.url(PASSWORD), asynchronous=True, ca_file=server.authority.file) as client:
            await client.set("key", "value")
            return await client.get("key")

    assert asyncio.run(talk()) == b"value"


def test_nothing_is_opened_before_the_first_command(server: EncryptedServer) -> None:
    before = server.connections()
    for asynchronous in (False, True):
        connect(server.url(PASSWORD), asynchronous=asynchronous, ca_file=server.authority.file)
    connect(server.url(PASSWORD), cluster=True, asynchronous=True, ca_file=server.authority.file)
    assert server.connections() == before + 1, "the one that counts"
    with connect(server.url(PASSWORD), ca_file=server.authority.file) as client:
        client.ping()
    assert server.connections() == before + 3


@pytest.mark.parametrize("trusted", ["another's", "the system's"])
def test_a_server_whose_authority_is_not_trusted_is_refused_and_told_nothing(
    trusted: str, server: EncryptedServer, tmp_path: Path
) -> None:
    ca_file = wrong_authority(tmp_path) if trusted == "another's" else None
    with connect(server.url(PASSWORD), ca_file=ca_file, retry=ONCE) as client:
        store = SessionStore(client)
        with pytest.raises(RedisUnavailable, match="CERTIFICATE_VERIFY_FAILED") as caught:
            store.info("s")
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r} {client!r}"


def test_an_asyncio_client_refuses_it_too(server: EncryptedServer, tmp_path: Path) -> None:
    async def talk() -> None:
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        ca_file = wrong_authority(tmp_path)
        async with connect(server.url(PASSWORD), asynchronous=True, ca_file=ca_file, retry=retry) as client:
            await client.ping()

    with pytest.raises(redis.exceptions.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(talk())


async def ping(url: str, **options: Any) -> None:
    """Send a command with a client of any kind."""
    if options.get("asynchronous"):
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        async with connect(url, retry=retry, **options) as client:
            await client.set("key", "value")
    else:
        with contextlib.closing(connect(url, retry=ONCE, **options)) as client:
            client.set("key", "value")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("cluster", [False, True])
def test_the_systems_authorities_do_not_count_where_names_are_not_checked(  # noqa: PLR0917
    cluster: bool,  # noqa: FBT001
    asynchronous: bool,  # noqa: FBT001
    server: EncryptedServer,
    nodes: Sequence[EncryptedServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Anybody can have a certificate of a public authority, for a name of their own."""
    url, own = (nodes[0] if cluster else server).url(PASSWORD), server.authority.file
    options: dict[str, Any] = {"cluster": cluster, "asynchronous": asynchronous}
    asyncio.run(ping(url, ca_file=own, **options))
    monkeypatch.setenv("SSL_CERT_FILE", str(own))  # the server's authority is a public one
    for others in (
        {"ca_file": wrong_authority(tmp_path)},
        {"ca_file": tmp_path / "another" / "ca.pem", "ssl_check_hostname": False},
    ):
        errors = (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, RedisUnavailable)
        with pytest.raises(errors, match="CERTIFICATE_VERIFY_FAILED"):
            asyncio.run(ping(url, **others, **options))


def test_a_file_with_several_authorities_does_not_do_without_the_name(server: EncryptedServer, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(server.authority.file.read_bytes() + wrong_authority(tmp_path).read_bytes())
    with pytest.raises(redis.exceptions.ConnectionError, match="certificate is not valid for"):
        asyncio.run(ping(server.url(PASSWORD), ca_file=both))
    asyncio.run(ping(f"{server.url(PASSWORD)}?ssl_check_hostname=false", ca_file=both))


def test_the_name_in_a_certificate_counts_where_the_url_or_the_caller_says_so(server: EncryptedServer) -> None:
    ca_file = server.authority.file
    for client in (
        connect(server.url(PASSWORD), ca_file=ca_file, retry=ONCE, ssl_check_hostname=True),
        connect(f"{server.url(PASSWORD)}?ssl_check_hostname=true", ca_file=ca_file, retry=ONCE),
    ):
        with client, pytest.raises(redis.exceptions.ConnectionError, match="certificate is not valid for"):
            client.ping()


def test_a_client_without_tls_connects_by_auth_alone(server: EncryptedServer) -> None:
    with connect(f"redis://:{PASSWORD}@{HOST}:{server.plain.port}/0") as client:
        assert client.set("key", "value")
        assert client.get("key") == b"value"


def test_a_wrong_password_is_named_in_no_error(server: EncryptedServer) -> None:
    with connect(server.url("wrong-password"), ca_file=server.authority.file, retry=ONCE) as client:
        store = SessionStore(client)
        with pytest.raises(RedisUnavailable, match="invalid username-password") as caught:
            store.info("s")
    assert "wrong-password" not in f"{caught.value!r} {caught.value.__cause__!r} {client!r}"


def test_options_of_the_caller_and_of_the_url_come_before_the_defaults(server: EncryptedServer) -> None:
    url = f"{server.url(PASSWORD)}?socket_timeout=7"
    with connect(url, ca_file=server.authority.file, decode_responses=True, socket_connect_timeout=3) as client:
        options = client.connection_pool.connection_kwargs
        assert client.set("key", "value")
        assert client.get("key") == "value"
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (7, 3)
    assert (options["health_check_interval"], options["socket_keepalive"]) == (30, True)
    assert options["retry"].get_retries() == 5


def test_each_new_connection_is_authenticated_by_a_valid_token_and_an_old_one_goes_on(server: EncryptedServer) -> None:
    tokens = Tokens([server], life=timedelta(minutes=3))  # within what is renewed ahead
    with connect(server.url(), ca_file=server.authority.file, iam=tokens) as client:
        first = client.connection_pool.get_connection()
        tokens.expire()
        second = client.connection_pool.get_connection()
        for connection in (first, second):
            connection.send_command("ACL", "WHOAMI")
            assert connection.read_response() == b"default"
            client.connection_pool.release(connection)
        assert len(tokens.issued) == 2
        MemorystoreChatMessageHistory(client, "s", 3600).add_user_message("hello")
    assert not [token for token in tokens.issued if token in f"{client!r} {client.connection_pool!r}"]


def test_a_token_is_kept_while_it_is_valid(server: EncryptedServer) -> None:
    tokens = Tokens([server])
    for _ in range(2):
        with connect(server.url(), ca_file=server.authority.file, iam=tokens) as client:
            for connection in [client.connection_pool.get_connection() for _ in range(5)]:
                client.connection_pool.release(connection)
    assert len(tokens.issued) == 2, "one for each client of a source"


def test_a_source_that_fails_is_unavailability_until_it_works(server: EncryptedServer) -> None:
    tokens = Tokens([server])

    def fail() -> None:
        raise OSError("the metadata server is down")

    tokens.before = fail
    with connect(server.url(), ca_file=server.authority.file, iam=tokens, retry=ONCE) as client:
        store = SessionStore(client)
        with pytest.raises(TransientError, match="there is no IAM access token: the metadata server is down"):
            store.info("s")
        tokens.before = lambda: None
        with contextlib.closing(connect(server.url(), ca_file=server.authority.file, iam=tokens)) as other:
            assert SessionStore(other).info("s") is None


def test_a_client_waits_for_a_source_that_fails_for_a_moment(server: EncryptedServer) -> None:
    tokens = Tokens([server])
    failures = iter([OSError("once")])

    def fail() -> None:
        for failure in failures:
            raise failure

    tokens.before = fail
    with connect(server.url(), ca_file=server.authority.file, iam=tokens) as client:
        assert client.ping()
    assert len(tokens.issued) == 1


def test_many_threads_that_connect_at_once_ask_for_one_token(server: EncryptedServer) -> None:
    tokens = Tokens([server])
    gate = threading.Barrier(16)
    with connect(server.url(), ca_file=server.authority.file, iam=tokens) as client:

        def ping(_: int) -> Any:
            gate.wait()
            return client.ping()

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(ping, range(16)))
        assert len(client.connection_pool._available_connections) > 1
    assert len(tokens.issued) == 1


def test_an_asyncio_client_asks_for_one_token_and_the_loop_goes_on_meanwhile(server: EncryptedServer) -> None:
    tokens = Tokens([server])
    answered = threading.Event()
    in_time: list[bool] = []

    async def talk() -> list[Any]:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        def wait() -> None:
            loop.call_soon_threadsafe(asked.set)
            in_time.append(answered.wait(5))

        tokens.before = wait
        async with connect(server.url(), asynchronous=True, ca_file=server.authority.file, iam=tokens) as client:
            pings = [asyncio.ensure_future(client.ping()) for _ in range(8)]
            await asked.wait()
            answered.set()
            return await asyncio.gather(*pings)

    assert asyncio.run(talk()) == [True] * 8
    assert in_time == [True], "once, and while the loop went on"


@pytest.mark.parametrize("iam", [False, True])
def test_a_cluster_with_tls_is_used_by_password_and_by_token(iam: bool, nodes: Sequence[EncryptedServer]) -> None:  # noqa: FBT001
    tokens = Tokens(nodes)
    first = nodes[0]
    url, source = (first.url(), tokens) if iam else (first.url(PASSWORD), False)
    with connect(url, cluster=True, ca_file=first.authority.file, iam=source) as client:
        assert {node.port for node in client.get_nodes()} == {node.port for node in nodes}
        for number in range(16):
            MemorystoreChatMessageHistory(client, f"s{number}", 3600).add_user_message("hello")
        assert MemorystoreChatMessageHistory(client, "s7").messages[0].content == "hello"
    for node in nodes:
        with node.plain.client() as admin:
            assert admin.dbsize(), "each node has its share"
    assert len(tokens.issued) == iam


@pytest.mark.parametrize("iam", [False, True])
def test_an_asyncio_client_of_a_cluster_does_too(iam: bool, nodes: Sequence[EncryptedServer]) -> None:  # noqa: FBT001
    tokens = Tokens(nodes)
    first = nodes[0]
    url, source = (first.url(), tokens) if iam else (first.url(PASSWORD), False)

    async def talk() -> list[Any]:
        async with connect(url, cluster=True, asynchronous=True, ca_file=first.authority.file, iam=source) as client:
            for number in range(16):
                await client.set(f"key{number}", "value")
            return [await client.get(f"key{number}") for number in range(16)]

    assert asyncio.run(talk()) == [b"value"] * 16
    assert len(tokens.issued) == iam


def test_a_cluster_whose_authority_is_not_trusted_is_unavailable_at_once(
    nodes: Sequence[EncryptedServer], tmp_path: Path
) -> None:
    with pytest.raises(RedisUnavailable, match="CERTIFICATE_VERIFY_FAILED") as caught:
        connect(nodes[0].url(PASSWORD), cluster=True, ca_file=wrong_authority(tmp_path))
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_cluster_that_is_down_is_unavailable_at_once() -> None:
    with pytest.raises(RedisUnavailable, match="can't be reached"):
        connect(f"redis://:{PASSWORD}@{HOST}:{free_port()}", cluster=True)


@pytest.fixture
def metadata(server: EncryptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tokens]:
    """The tokens that google-auth gets from a metadata server, in this process and in those that it starts."""
    tokens = Tokens([server], life=timedelta(minutes=1))  # so that each new connection needs a new one
    application_default.cache_clear()
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with metadata_server(tokens, tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        # What it has read of the environment when it was imported.
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", environment["GCE_METADATA_HOST"])
        yield tokens
    application_default.cache_clear()


def test_application_default_credentials_are_what_iam_takes_by_itself(
    server: EncryptedServer, metadata: Tokens
) -> None:
    with connect(server.url(), ca_file=server.authority.file, iam=True) as client:
        assert client.ping()
    assert metadata.issued


@pytest.mark.timeout(240)
def test_a_worker_whose_broker_is_the_same_instance_works_by_tls_and_tokens(
    server: EncryptedServer, metadata: Tokens, tmp_path: Path
) -> None:
    deployment = connect_services(
        load_settings(
            {
                "redis_url": server.url(),
                "redis_ca_file": server.authority.file,
                "redis_iam": True,
                "archive_url": (tmp_path / "archive").as_uri(),
                "idle_timeout_seconds": 1,
                "sweep_interval_seconds": 0.5,
            }
        )
    )
    client = deployment.sessions.client
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        MemorystoreChatMessageHistory(client, "before", 1).add_user_message("hello")
        wait_until(lambda: archived(deployment) == 1, 60, "the session is archived")
        metadata.expire()
        with server.plain.client() as admin:
            assert admin.client_kill_filter(_type="normal", skipme=True)
        MemorystoreChatMessageHistory(client, "after", 1).add_user_message("hello")
        wait_until(lambda: archived(deployment) == 2, 60, "all processes have connected anew with new tokens")
        app = make_app(lambda: deployment.settings, set_as_current=False)
        purged = app.send_task("torpor.purge_session", ["before"], {"reason": "a test"}).get(timeout=scaled(60))
        assert purged["state"] == "complete"
        app.close()
    said = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert "torpor.sweep" in said
    assert not [token for token in metadata.issued if token in said]


def test_celery_trusts_the_authority_in_the_brokers_url_alone_if_it_compares_no_names(
    authority: Authority, server: EncryptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = wrong_authority(tmp_path)
    settings = {"archive_url": (tmp_path / "archive").as_uri()}

    databases = count()  # kombu's pool knows connections by host, port and database, and by no certificate

    def broker(trusted: Path, names: str) -> Any:
        url = f"{server.url(PASSWORD, f'/{next(databases)}')}?ssl_ca_certs={trusted}&ssl_check_hostname={names}"
        app = make_app(lambda: load_settings(settings | {"broker_url": url}), set_as_current=False)
        app.conf.update(broker_connection_timeout=5, broker_transport_options={"max_retries": 0})
        return contextlib.closing(app)

    # A public authority, which the system trusts for every host.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    for names in ("false", "0", "no"):
        with broker(another, names) as wrong:
            with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
                wrong.send_task("torpor.sweep", retry=False, ignore_result=True)
            with pytest.raises(redis.exceptions.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                wrong.backend.client.ping()
    with broker(authority.file, "true") as named, pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        named.send_task("torpor.sweep", retry=False, ignore_result=True)
    monkeypatch.delenv("SSL_CERT_FILE")
    with broker(authority.file, "false") as own:
        own.send_task("torpor.sweep", ignore_result=True)
        assert own.backend.client.ping()
        with server.plain.client() as admin:
            assert admin.info("keyspace").keys() == {"db4"}, "of five messages the last one was sent"
