"""Settings: one class, read from the environment, every fault named at once and no password anywhere."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import SecretStr

from support.signing import signing_settings
from support.tls import make_authority
from torpor import application_default
from torpor.history.policy import Bounds
from torpor.history.protocol import Policies, TorporError
from torpor.worker.archive.stores.url import parse_archive_url
from torpor.worker.deployment.policy_settings import PolicySettings
from torpor.worker.deployment.settings import Settings, load_settings
from torpor.worker.deployment.settings import environment as environment_of
from torpor.worker.errors import SettingsError

SECRET = "hunter2secret"
RULE = PolicySettings(owner="ann", max_age_max_seconds=60)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with no setting but the one that is required."""
    for name in list(os.environ):
        if name.upper().startswith("TORPOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TORPOR_ARCHIVE_URL", "gs://bucket/chats")


def faults() -> list[str]:
    """What loading the settings says, a line for each fault."""
    with pytest.raises(SettingsError) as caught:
        load_settings()
    head, *lines = str(caught.value).splitlines()
    assert head == "wrong settings:"
    return [line.strip() for line in lines]


def test_only_the_archive_url_must_be_set() -> None:
    settings = load_settings()
    assert settings.model_dump() == {
        "redis_url": SecretStr("redis://localhost:6379/0"),
        "redis_cluster": False,
        "redis_ca_file": None,
        "redis_iam": False,
        "broker_url": None,
        "signing_key": None,
        "signing_certificate": None,
        "signing_trusted": None,
        "remote_control": False,
        "archive_url": "gs://bucket/chats",
        "namespace": "torpor",
        "shards": None,
        "idle_timeout_seconds": 86_400,
        "max_age_seconds": None,
        "archive_retention_seconds": None,
        "policies": None,
        "require_owner": False,
        "require_reason": False,
        "audit_retention_seconds": None,
        "export_url": None,
        "compression": "none",
        "sweep_interval_seconds": 15,
        "lease_seconds": 300,
        "batch": 64,
        "concurrency": 16,
        "uploads_per_second": None,
        "drain_seconds": 60,
        "listen": True,
        "memory_high": 0.85,
        "memory_low": 0.75,
        "memory_limit": None,
        "tombstone_seconds": 86_400,
        "on_event_task": None,
        "on_event_queue": "torpor-events",
        "nice": 10,
        "grace_seconds": 20,
        "http_port": None,
        "log_format": "text",
        "heartbeat_file": None,
        "max_attempts": 5,
        "retry_delay_seconds": 30,
        "max_message_bytes": 16_777_216,
    }
    assert settings.lease == timedelta(minutes=5)
    assert settings.celery_broker == "redis://localhost:6379/0"


def test_a_missing_archive_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORPOR_ARCHIVE_URL")
    assert faults() == ["TORPOR_ARCHIVE_URL: is required"]
    monkeypatch.setenv("TORPOR_ARCHIVE_URL", "")
    assert faults() == ["TORPOR_ARCHIVE_URL: is required"]


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return make_authority(tmp_path / "an instance").file


def test_every_setting_is_read_from_its_variable(
    ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = signing_settings(tmp_path, "ours")
    values: dict[str, tuple[str, Any]] = {
        "REDIS_URL": ("rediss://redis.example:6380/0", SecretStr("rediss://redis.example:6380/0")),
        "REDIS_CLUSTER": ("true", True),
        "REDIS_CA_FILE": (str(ca_file), ca_file),
        "REDIS_IAM": ("true", True),
        "BROKER_URL": ("amqp://broker//", SecretStr("amqp://broker//")),
        **{name.upper(): (str(path), path) for name, path in keys.items()},
        "REMOTE_CONTROL": ("true", True),
        "HEARTBEAT_FILE": (str(tmp_path / "beating"), tmp_path / "beating"),
        "HTTP_PORT": ("9464", 9464),
        "LOG_FORMAT": ("json", "json"),
        "ARCHIVE_URL": ("file:///var/lib/torpor", "file:///var/lib/torpor"),
        "NAMESPACE": ("chat:eu", "chat:eu"),
        "SHARDS": ("16", 16),
        "IDLE_TIMEOUT_SECONDS": ("3600", 3600),
        "MAX_AGE_SECONDS": ("7200", 7200),
        "ARCHIVE_RETENTION_SECONDS": ("2592000", 2_592_000),
        "POLICIES": ('[{"owner": "ann", "max_age_max_seconds": 60}]', (RULE,)),
        "REQUIRE_OWNER": ("true", True),
        "REQUIRE_REASON": ("true", True),
        "AUDIT_RETENTION_SECONDS": ("31536000", 31_536_000),
        "EXPORT_URL": ("gs://reports/chats", "gs://reports/chats"),
        "COMPRESSION": ("zstd", "zstd"),
        "SWEEP_INTERVAL_SECONDS": ("0.5", 0.5),
        "LEASE_SECONDS": ("60", 60.0),
        "BATCH": ("10", 10),
        "CONCURRENCY": ("4", 4),
        "UPLOADS_PER_SECOND": ("100", 100.0),
        "DRAIN_SECONDS": ("30", 30.0),
        "LISTEN": ("false", False),
        "MEMORY_HIGH": ("0.9", 0.9),
        "MEMORY_LOW": ("0.5", 0.5),
        "MEMORY_LIMIT": ("1000000", 1_000_000),
        "TOMBSTONE_SECONDS": ("60", 60),
        "ON_EVENT_TASK": ("app.woken", "app.woken"),
        "ON_EVENT_QUEUE": ("events", "events"),
        "NICE": ("19", 19),
        "GRACE_SECONDS": ("5", 5.0),
        "MAX_ATTEMPTS": ("3", 3),
        "RETRY_DELAY_SECONDS": ("1", 1.0),
        "MAX_MESSAGE_BYTES": ("1000", 1_000),
    }
    assert {name.lower() for name in values} == set(Settings.model_fields)
    for name, (text, _) in values.items():
        monkeypatch.setenv(f"TORPOR_{name}", text)
    settings = load_settings()
    assert {name: getattr(settings, name.lower()) for name in values} == {
        name: value for name, (_, value) in values.items()
    }
    assert settings.celery_broker == "amqp://broker//"


def test_keys_that_do_not_fit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = signing_settings(tmp_path / "ours", "ours"), signing_settings(tmp_path / "theirs", "theirs")

    def fault(**changed: Path) -> str:
        for name, path in {**ours, **changed}.items():
            monkeypatch.setenv(f"TORPOR_{name.upper()}", str(path))
        [found] = faults()
        return found.removeprefix("TORPOR_SIGNING_TRUSTED: ")

    not_trusted = "the certificate must be of the key, and among the trusted ones"
    assert fault(signing_key=theirs["signing_key"]) == not_trusted
    assert fault(signing_trusted=theirs["signing_trusted"]) == not_trusted
    assert fault(signing_key=ours["signing_certificate"]).startswith(
        "the key and all certificates must be files in PEM"
    )
    (ours["signing_trusted"] / "a note").write_text("not a certificate")
    assert fault().startswith("the key and all certificates must be files in PEM")
    monkeypatch.delenv("TORPOR_SIGNING_KEY")
    assert [each.partition(":")[2] for each in faults()] == [
        " is needed with TORPOR_SIGNING_KEY and TORPOR_SIGNING_CERTIFICATE: all three, or none"
    ]


def test_what_a_caller_gives_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_BATCH", "10")
    monkeypatch.setenv("TORPOR_CONCURRENCY", "3")
    settings = load_settings({"batch": 20, "concurrency": None})
    assert (settings.batch, settings.concurrency) == (20, 3)


WRONG = {
    "REDIS_URL": "http://localhost",
    "REDIS_CLUSTER": "three",
    "REDIS_CA_FILE": "/nowhere/ca.pem",
    "REDIS_IAM": "perhaps",
    "BROKER_URL": "localhost",
    "SIGNING_KEY": "/nowhere/ours.key",
    "SIGNING_CERTIFICATE": "/nowhere/ours.pem",
    "SIGNING_TRUSTED": "/nowhere/trusted",
    "REMOTE_CONTROL": "perhaps",
    "HEARTBEAT_FILE": "/nowhere/beating",
    "HTTP_PORT": "0",
    "LOG_FORMAT": "xml",
    "ARCHIVE_URL": "s3://bucket",
    "NAMESPACE": "a{b}",
    "SHARDS": "0",
    "IDLE_TIMEOUT_SECONDS": "1.5",
    "MAX_AGE_SECONDS": "0",
    "ARCHIVE_RETENTION_SECONDS": "3153600001",
    "POLICIES": '{"owner": "ann"}',
    "REQUIRE_OWNER": "perhaps",
    "REQUIRE_REASON": "perhaps",
    "AUDIT_RETENTION_SECONDS": "0",
    "EXPORT_URL": "file:///tables",
    "COMPRESSION": "gzip",
    "SWEEP_INTERVAL_SECONDS": "0",
    "LEASE_SECONDS": "nan",
    "BATCH": "none",
    "CONCURRENCY": "-1",
    "UPLOADS_PER_SECOND": "0",
    "DRAIN_SECONDS": "inf",
    "LISTEN": "perhaps",
    "MEMORY_HIGH": "1.1",
    "MEMORY_LOW": "0",
    "MEMORY_LIMIT": "-1",
    "TOMBSTONE_SECONDS": "0",
    "ON_EVENT_TASK": "a task",
    "ON_EVENT_QUEUE": "a queue",
    "NICE": "20",
    "GRACE_SECONDS": "soon",
    "MAX_ATTEMPTS": "0",
    "RETRY_DELAY_SECONDS": "-0.1",
    "MAX_MESSAGE_BYTES": "536870913",
}


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name.lower() for name in WRONG} == set(Settings.model_fields)
    for name, text in WRONG.items():
        monkeypatch.setenv(f"TORPOR_{name}", text)
    monkeypatch.setenv("TORPOR_BATCHES", "3")
    said = faults()
    assert sorted(fault.split(":")[0] for fault in said) == sorted(f"TORPOR_{name}" for name in [*WRONG, "BATCHES"])
    assert (
        "TORPOR_ARCHIVE_URL: must be gs://bucket/prefix or file:///absolute/path, '?' and '#' percent-encoded" in said
    )
    assert "TORPOR_SHARDS: Input should be greater than or equal to 1" in said


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TORPOR_{name}", WRONG[name])
    [fault] = faults()
    assert fault.startswith(f"TORPOR_{name}: ")


def test_every_fault_of_every_rule_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rules: list[Any] = [
        {"owner": "ann"},
        {"owner": "ann", "planet": "mars", "idle_timeout_seconds": 0, "max_age_seconds": True},
        {"idle_timeout_seconds": 60},
        {
            "session_prefix": "",
            "idle_timeout_min_seconds": 61,
            "idle_timeout_max_seconds": 60,
            "max_age_seconds": 59,
            "max_age_min_seconds": 60,
            "archive_retention_seconds": 61,
            "archive_retention_max_seconds": 60,
        },
        {"owner": "", "owner_prefix": 7},
        "ann",
    ]
    monkeypatch.setenv("TORPOR_POLICIES", json.dumps(rules))
    assert faults() == [
        "TORPOR_POLICIES: rule 2: idle_timeout_seconds: Input should be greater than or equal to 1",
        "TORPOR_POLICIES: rule 2: max_age_seconds: Input should be a valid integer",
        "TORPOR_POLICIES: rule 2: planet: there is no such setting",
        "TORPOR_POLICIES: rule 3: it needs owner, owner_prefix or session_prefix",
        (
            "TORPOR_POLICIES: rule 4: idle_timeout_min_seconds is above idle_timeout_max_seconds; max_age_seconds is "
            "below max_age_min_seconds; archive_retention_seconds is above archive_retention_max_seconds"
        ),
        "TORPOR_POLICIES: rule 5: owner: String should have at least 1 character",
        "TORPOR_POLICIES: rule 5: owner_prefix: Input should be a valid string",
        "TORPOR_POLICIES: rule 6: Input should be a valid dictionary or instance of PolicySettings",
    ]


@pytest.mark.parametrize("text", ["[", "7", "null", '"ann"', "{}", "owner=ann"])
def test_policies_are_a_list_in_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_POLICIES", text)
    assert faults() == ["TORPOR_POLICIES: must be a list of rules in JSON"]


def test_policies_are_the_rules_that_applications_get() -> None:
    rule = {name: 60 for name in PolicySettings.model_fields if name.endswith("_seconds")}
    settings = load_settings({"policies": [{**rule, "owner": "ä", "owner_prefix": "", "session_prefix": "s"}]})
    minute = timedelta(minutes=1)
    [found] = settings.rules.rules
    assert (found.owner, found.owner_prefix, found.session_prefix) == ("ä", "", "s")
    assert {found.idle, found.max_age, found.retention} == {Bounds(minute, minute, minute)}
    assert load_settings().rules == Policies()


def test_a_process_that_is_given_the_settings_has_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings({"policies": [{"owner": "ä", "max_age_seconds": 60}], "archive_retention_seconds": 60})
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert settings.archive_retention == timedelta(minutes=1)


@pytest.mark.parametrize("url", ["redis://localhost:6379", "rediss://u:p@localhost:6380/0"])
def test_a_cluster_needs_a_broker_of_its_own(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_REDIS_CLUSTER", "true")
    monkeypatch.setenv("TORPOR_REDIS_URL", url)
    monkeypatch.setenv("TORPOR_SHARDS", "0")
    broker, shards = faults()
    assert broker.startswith("TORPOR_BROKER_URL: is required with TORPOR_REDIS_CLUSTER")
    assert shards.startswith("TORPOR_SHARDS: ")
    monkeypatch.delenv("TORPOR_SHARDS")
    monkeypatch.setenv("TORPOR_BROKER_URL", "redis://broker:6379/1")
    assert load_settings().redis_cluster


@pytest.mark.parametrize("url", [f"redis://:{SECRET}@localhost:6379/1", f"unix://:{SECRET}@/run/redis.sock"])
def test_a_cluster_has_one_database_and_no_unix_socket(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_REDIS_CLUSTER", "true")
    monkeypatch.setenv("TORPOR_BROKER_URL", "redis://broker:6379/1")
    monkeypatch.setenv("TORPOR_REDIS_URL", url)
    [fault] = faults()
    assert fault.startswith("TORPOR_REDIS_CLUSTER: the URL of a Cluster needs a host")
    assert SECRET not in fault


def test_a_ca_file_and_tokens_need_an_encrypted_redis(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_REDIS_CA_FILE", str(ca_file))
    monkeypatch.setenv("TORPOR_REDIS_IAM", "true")
    assert [fault[:50] for fault in faults()] == [
        "TORPOR_REDIS_CA_FILE: ca_file needs a rediss:// UR",
        "TORPOR_REDIS_IAM: iam needs a rediss:// URL: a tok",
    ]
    monkeypatch.setenv("TORPOR_REDIS_URL", f"rediss://:{SECRET}@localhost")
    assert faults() == ["TORPOR_REDIS_IAM: iam takes the place of a user name, a password and a credential provider"]
    monkeypatch.setenv("TORPOR_REDIS_URL", "rediss://localhost")
    assert load_settings().redis_iam


def parsed(url: str) -> tuple[str, dict[str, str]]:
    """A URL without its query, and that."""
    parts = urlsplit(url)
    return parts._replace(query="").geturl(), dict(parse_qsl(parts.query))


@pytest.mark.parametrize("broker", [None, "rediss://:p%40ss@10.0.0.3/1", "rediss://:p%40ss@10.0.0.3:6379/1"])
def test_a_broker_that_is_the_same_redis_is_trusted_as_it_is(
    broker: str | None, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORPOR_REDIS_URL", "rediss://:p%40ss@10.0.0.3:6379/0")
    monkeypatch.setenv("TORPOR_REDIS_CA_FILE", str(ca_file))
    monkeypatch.setenv("TORPOR_BROKER_URL", broker or "")
    url, options = parsed(load_settings().celery_broker)
    assert url == (broker or "rediss://:p%40ss@10.0.0.3:6379/0")
    assert options == {"ssl_cert_reqs": "required", "ssl_ca_certs": str(ca_file), "ssl_check_hostname": "false"}


def test_a_broker_that_is_the_same_redis_is_shown_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_REDIS_URL", "rediss://10.0.0.3?socket_timeout=9")
    monkeypatch.setenv("TORPOR_REDIS_IAM", "true")
    _, options = parsed(load_settings().celery_broker)
    assert options.pop("ssl_cert_reqs") == "required"
    assert options == {"socket_timeout": "9", "credential_provider": "torpor.application_default"}
    module, _, name = options["credential_provider"].rpartition(".")
    assert getattr(import_module(module), name) is application_default


def test_a_token_is_sent_to_no_broker_that_shows_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_REDIS_URL", "rediss://10.0.0.3")
    monkeypatch.setenv("TORPOR_REDIS_IAM", "true")
    for broker in (
        "rediss://10.0.0.3/1?ssl_cert_reqs=none",
        "rediss://10.0.0.3/1?ssl_cert_reqs=optional",
        "rediss://10.0.0.4?credential_provider=torpor.application_default&ssl_cert_reqs=none",
        "redis://10.0.0.4?credential_provider=torpor.application_default",
        "rediss://10.0.0.4;rediss://10.0.0.3?ssl_cert_reqs=none",
    ):
        monkeypatch.setenv("TORPOR_BROKER_URL", broker)
        assert [fault.partition(" with ")[0] for fault in faults()] == ["TORPOR_BROKER_URL: IAM needs rediss://"]


def test_a_password_is_sent_to_no_broker_that_could_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for broker in (
        "rediss://:pw@10.0.0.4?ssl_cert_reqs=none",
        "rediss://:pw@10.0.0.4?ssl_cert_reqs=optional&ssl_ca_certs=/ca.pem",
        "rediss://10.0.0.4?password=pw&ssl_cert_reqs=none",
        "rediss://10.0.0.4;rediss://:pw@10.0.0.5?ssl_cert_reqs=none",
    ):
        monkeypatch.setenv("TORPOR_BROKER_URL", broker)
        assert [fault.partition(" with ")[0] for fault in faults()] == [
            "TORPOR_BROKER_URL: a password needs ssl_cert_reqs=required: whoever answers would be sent it"
        ]
    for word in ("false", "False", "0", "no"):
        monkeypatch.setenv("TORPOR_BROKER_URL", f"rediss://:pw@10.0.0.4?ssl_check_hostname={word}")
        assert [fault.partition(",")[0] for fault in faults()] == [
            "TORPOR_BROKER_URL: ssl_check_hostname=false needs ssl_ca_certs"
        ]
        trusting = f"rediss://:pw@10.0.0.4?ssl_check_hostname={word}&ssl_ca_certs=/ca.pem"
        monkeypatch.setenv("TORPOR_BROKER_URL", trusting)
        assert parsed(load_settings().celery_broker)[1]["ssl_check_hostname"] == "false"
        monkeypatch.setenv("TORPOR_BROKER_URL", f"{trusting};rediss://10.0.0.5")
        assert [fault.partition(",")[0] for fault in faults()] == ["TORPOR_BROKER_URL: of several brokers"]


def test_a_broker_with_several_authorities_must_show_its_name(
    ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(ca_file.read_bytes() + make_authority(tmp_path / "another").file.read_bytes())
    monkeypatch.setenv("TORPOR_REDIS_URL", "rediss://10.0.0.3")
    monkeypatch.setenv("TORPOR_REDIS_CA_FILE", str(both))
    assert parsed(load_settings().celery_broker)[1]["ssl_check_hostname"] == "true"
    monkeypatch.setenv("TORPOR_REDIS_CA_FILE", str(ca_file))
    monkeypatch.setenv("TORPOR_BROKER_URL", f"rediss://10.0.0.3?ssl_ca_certs={both}")
    assert "ssl_check_hostname" not in parsed(load_settings().celery_broker)[1]


def test_each_of_several_brokers_must_show_its_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_BROKER_URL", "rediss://one:6379/0;rediss://two:6379/1")
    brokers = load_settings().celery_broker.split(";")
    assert brokers == [f"rediss://{each}?ssl_cert_reqs=required" for each in ("one:6379/0", "two:6379/1")]


@pytest.mark.parametrize("url", ["redis://one:many/0", "redis://one/0;carrier-pigeon://two"])
def test_a_broker_that_can_not_be_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_BROKER_URL", url)
    with pytest.raises(SettingsError, match="TORPOR_BROKER_URL: must be a URL of a transport"):
        load_settings()


def test_another_broker_is_connected_to_as_its_url_says(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_REDIS_URL", "rediss://10.0.0.3")
    monkeypatch.setenv("TORPOR_REDIS_CA_FILE", str(ca_file))
    monkeypatch.setenv("TORPOR_REDIS_IAM", "true")
    for broker, options in {
        "rediss://10.0.0.4": {"ssl_cert_reqs": "required"},
        "rediss://10.0.0.4?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none": {
            "ssl_ca_certs": "/ca.pem",
            "ssl_cert_reqs": "none",
        },
        "redis://10.0.0.3": {},
        "amqp://10.0.0.4//": {},
    }.items():
        monkeypatch.setenv("TORPOR_BROKER_URL", broker)
        assert parsed(load_settings().celery_broker) == (broker.partition("?")[0], options)


@pytest.mark.parametrize("name", ["TORPOR_ARCHIVE", "torpor_idle_timeout", "Torpor_X"])
def test_an_unknown_variable_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    assert faults() == [f"{name}: there is no such setting"]


def test_a_setting_that_does_not_exist_can_not_be_given() -> None:
    with pytest.raises(SettingsError, match="TORPOR_BATCHES"):
        load_settings({"batches": 3})


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().batch = 3


def test_passwords_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_REDIS_URL", f"redis://:{SECRET}@localhost:6379/0")
    monkeypatch.setenv("TORPOR_BROKER_URL", f"redis://:{SECRET}@localhost:6379/1")
    settings = load_settings()
    assert SECRET in settings.celery_broker
    assert SECRET not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", f"http://:{SECRET}@localhost"),
        ("REDIS_URL", f"redis://:{SECRET}@localhost:port/0"),
        ("REDIS_URL", f"redis://:{SECRET}/x@localhost:6379/0"),
        ("REDIS_URL", f"redis://:{SECRET}#x@localhost:6379/0"),
        ("REDIS_URL", f"redis://:{SECRET}@[localhost"),
        ("REDIS_URL", f"redis://localhost/0?socket_timeout={SECRET}"),
        ("BROKER_URL", SECRET),
        ("ARCHIVE_URL", f"gs://user:{SECRET}@bucket"),
        ("ARCHIVE_URL", f"file://user:{SECRET}@host/path"),
        ("NAMESPACE", f"{{{SECRET}}}"),
        ("BATCH", SECRET),
        ("POLICIES", SECRET),
        ("POLICIES", f'[{{"owner": "{SECRET}", "max_age_seconds": "{SECRET}"}}]'),
    ],
)
def test_no_password_is_in_what_is_said_of_a_wrong_value(name: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TORPOR_{name}", url)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"TORPOR_{name}: " in str(caught.value)
    chain: BaseException | None = caught.value
    while chain:
        assert SECRET not in f"{chain} {chain!r}"
        chain = None if chain.__suppress_context__ else chain.__cause__ or chain.__context__


def test_wrong_settings_are_an_error_of_torpor_and_a_value_error() -> None:
    assert issubclass(SettingsError, TorporError)
    assert issubclass(SettingsError, ValueError)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("gs://bucket", ("bucket", "")),
        ("gs://bucket/", ("bucket", "")),
        ("gs://my-bucket.example.com/chats", ("my-bucket.example.com", "chats")),
        ("gs://bucket/a/b/", ("bucket", "a/b")),
        ("file:///var/lib/torpor", Path("/var/lib/torpor")),
        ("file:///var/my%20chats", Path("/var/my chats")),
        ("file:/var/lib", Path("/var/lib")),
    ],
)
def test_an_archive_url_names_a_bucket_and_prefix_or_a_folder(url: str, place: tuple[str, str] | Path) -> None:
    assert parse_archive_url(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket",
        "gs:",
        "gs://",
        "gs:///chats",
        "gs://B",
        "gs://Bucket/chats",
        "gs://b",
        "gs://-bucket",
        "gs://bucket:80/chats",
        "gs://user@bucket/chats",
        "gs://bucket/chats?x=1",
        "gs://bucket/chats#x",
        "gs://[bucket",
        "file://host/path",
        "file:relative/path",
        "/var/lib/torpor",
        "s3://bucket/chats",
    ],
)
def test_another_archive_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be gs://|Invalid IPv6"):
        parse_archive_url(url)
