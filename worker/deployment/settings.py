"""The worker's settings, read from the environment, and written to that of a child process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from torpor.history.protocol import (
    DEFAULT_NAMESPACE,
    MAX_MESSAGE_BYTES,
    MAX_SHARDS,
    MOST_MESSAGE_BYTES,
    Compression,
    Policies,
)
from torpor.worker.deployment import setting_types as types
from torpor.worker.deployment.broker_url import for_celery
from torpor.worker.deployment.environment import CONSOLE_PREFIX, PREFIX, load_all
from torpor.worker.deployment.policy_settings import PolicySettings, WholeSeconds, policies_of, read_rules, write_rules
from torpor.worker.deployment.signing import SigningKeys

_NAME = r"^[\w.:-]+$"


class Settings(BaseSettings):
    """Every setting, read from `TORPOR_<NAME>` in the environment. `repr` shows no password."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, env_ignore_empty=True
    )

    redis_url: types.RedisUrl = Field(
        default=SecretStr("redis://localhost:6379/0"),
        description="The Redis that has the sessions: redis://, rediss:// (TLS) or unix://.",
    )
    redis_cluster: types.RedisCluster = Field(
        default=False,
        description="Whether TORPOR_REDIS_URL is a node of a Redis Cluster; TORPOR_BROKER_URL is then required.",
    )
    redis_ca_file: types.RedisCaFile = Field(
        default=None, description="A PEM file with the CA certificate of a rediss:// instance of Memorystore."
    )
    redis_iam: types.RedisIam = Field(
        default=False, description="Whether IAM access tokens replace a password; needs rediss://."
    )
    broker_url: types.BrokerUrl = Field(
        default=None, validate_default=True, description="Celery's broker; TORPOR_REDIS_URL if it is not set."
    )
    signing_key: types.ReadableFile = Field(
        default=None, description="A private key in PEM with which this process signs tasks; see docs/security.md."
    )
    signing_certificate: types.ReadableFile = Field(default=None, description="The certificate of that key, in PEM.")
    signing_trusted: types.SigningTrusted = Field(
        default=None,
        validate_default=True,
        description="A folder with the certificates of all whose tasks this process obeys; it refuses all other tasks.",
    )
    remote_control: bool = Field(
        default=False,
        description="Whether workers obey celery inspect and celery control, from whoever can write to the broker.",
    )
    archive_url: types.ArchiveUrl = Field(description="The archive: gs://bucket/prefix or file:///absolute/path.")
    namespace: types.Namespace = Field(default=DEFAULT_NAMESPACE, description="The prefix of all key names in Redis.")
    shards: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SHARDS,
        description="Shard count of a new deployment (256); must agree with the recorded one.",
    )
    idle_timeout_seconds: WholeSeconds = Field(
        default=86_400, description="How long a session without a ttl of its own may be idle."
    )
    max_age_seconds: WholeSeconds | None = Field(
        default=None, description="Archive a session that has been in Redis for so long, idle or not."
    )
    archive_retention_seconds: WholeSeconds | None = Field(
        default=None, description="How long a session's archive is kept after its last activity; for ever if not set."
    )
    policies: Annotated[tuple[PolicySettings, ...] | None, NoDecode, BeforeValidator(read_rules)] = Field(
        default=None, description="Rules by owner or prefix, a JSON list: see docs/policies.md."
    )
    require_owner: bool = Field(
        default=False, description="Whether applications are refused that name no owner: see docs/security.md."
    )
    require_reason: bool = Field(
        default=False,
        description="Whether every act that the audit trail has needs --by and --reason, and is not done unless the "
        "trail can be written: see docs/access.md.",
    )
    audit_retention_seconds: WholeSeconds | None = Field(
        default=None, description="How long entries of the audit trail are kept; for ever if not set."
    )
    export_url: types.ExportUrl = Field(
        default=None,
        description="A prefix of another bucket, gs://bucket/prefix, to which jobs may export too: see docs/jobs.md.",
    )
    compression: Compression = Field(
        default=Compression.NONE,
        description="zstd compresses the messages of chats in Redis: see docs/policies.md.",
    )
    sweep_interval_seconds: types.Seconds = Field(default=15, description="How often beat looks for due sessions.")
    listen: bool = Field(
        default=True, description="Whether workers act at the moment a session is due, not at the next sweep only."
    )
    lease_seconds: types.Seconds = Field(
        default=300, description="How long a worker owns a session that it has claimed; renewed while it works."
    )
    batch: int = Field(default=64, ge=1, le=10_000, description="Sessions claimed at a time.")
    concurrency: int = Field(default=16, ge=1, le=512, description="Sessions archived at a time in a process.")
    uploads_per_second: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Segments a process may upload in a second."
    )
    drain_seconds: types.Seconds = Field(default=60, description="How long one drain task may go on claiming.")
    memory_high: float = Field(
        default=0.85, gt=0, le=1, description="Share of Redis's memory limit above which sessions are archived early."
    )
    memory_low: types.MemoryLow = Field(
        default=0.75,
        gt=0,
        le=1,
        description="Share of the limit at which that ends; below TORPOR_MEMORY_HIGH.",
    )
    memory_limit: int | None = Field(
        default=None, ge=1, description="Bytes a node of Redis may use, if it does not show its own maxmemory."
    )
    tombstone_seconds: WholeSeconds = Field(
        default=86_400, description="How long a purged session refuses late writes, and its id is remembered."
    )
    on_event_task: str | None = Field(
        default=None,
        pattern=_NAME,
        description="The name of a Celery task that gets each event.",
    )
    on_event_queue: str = Field(default="torpor-events", pattern=_NAME, description="The queue that task is sent to.")
    nice: int = Field(
        default=10,
        ge=0,
        le=19,
        description="How far a worker gives way to other programs, as by nice(1).",
    )
    grace_seconds: types.Seconds = Field(
        default=20, description="How long a worker goes on with its sessions after SIGTERM, before it gives them back."
    )
    http_port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        description="A port of the worker for /metrics, /livez and /readyz; off if it is not set.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="The log of workers and of beat: text, or json with the fields of Cloud Logging."
    )
    heartbeat_file: types.HeartbeatFile = Field(
        default=None,
        description="A file that the worker touches every 10 seconds while it takes tasks, for a liveness probe.",
    )
    max_attempts: int = Field(
        default=5, ge=2, le=1_000, description="Failed attempts before a session goes to quarantine."
    )
    retry_delay_seconds: types.Seconds = Field(
        default=30, description="When to try again after a failure, with jitter of half of it."
    )

    max_message_bytes: int = Field(
        default=MAX_MESSAGE_BYTES,
        ge=1,
        le=MOST_MESSAGE_BYTES,
        description="The largest message that is imported, adopted, or read from a packed segment.",
    )

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts unless it is renewed."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def archive_retention(self) -> timedelta | None:
        """How long the archive keeps sessions without a retention of their own or by a policy; None is for ever."""
        return None if self.archive_retention_seconds is None else timedelta(seconds=self.archive_retention_seconds)

    @property
    def rules(self) -> Policies:
        """The policies as applications get them."""
        return policies_of(self.policies or ())

    @property
    def signing(self) -> SigningKeys | None:
        """The keys for signed tasks; None if tasks are not signed."""
        if not (self.signing_key and self.signing_certificate and self.signing_trusted):
            return None
        return SigningKeys(self.signing_key, self.signing_certificate, self.signing_trusted)

    @property
    def celery_broker(self) -> str:
        """The broker's URL as Celery wants it, with the password, and with the options for encryption and IAM."""
        url, redis_url = (each.get_secret_value() for each in (self.broker_url or self.redis_url, self.redis_url))
        return for_celery(url, redis_url, ca_file=self.redis_ca_file, iam=self.redis_iam)


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings from the environment. `overrides`, by field name, come first; None overrides nothing.

    Raises SettingsError, which names every wrong value and every unknown TORPOR_ variable at once.
    """
    return load_all(Settings, PREFIX, overrides, others=(CONSOLE_PREFIX,))


@cache
def own_settings() -> Settings:
    """The settings of this process, read once, also for the processes that it forks; raises SettingsError."""
    return load_settings()


def environment(settings: Settings) -> dict[str, str]:
    """An environment for a child process with these settings: ours, with the TORPOR_ variables replaced."""
    own = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    for name, value in settings:
        if value is not None:
            own[PREFIX + name.upper()] = _written(value)
    return own


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return write_rules(value)
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)
