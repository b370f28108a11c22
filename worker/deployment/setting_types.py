"""The types of settings, with their checks: the variables that a setting is checked with come before it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

from torpor.history.protocol import InvalidArgument, check_namespace, connect
from torpor.worker.archive.stores.url import parse_archive_url
from torpor.worker.deployment.broker_url import for_celery, is_broker_url
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.signing import SigningKeys

# Stand-in URL, so that `ca_file` and `iam` are still validated when `redis_url` is invalid.
_ENCRYPTED = SecretStr("rediss://")


def _redis_url(url: SecretStr) -> SecretStr:
    connect(url.get_secret_value())  # opens no connection
    return url


def _redis_cluster(cluster: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
    if cluster and "redis_url" in info.data:
        connect(info.data["redis_url"].get_secret_value(), cluster=True, asynchronous=True)  # nor does this
    return cluster


def _none(value: Any) -> Any:
    return None if value == "" else value


def _redis_ca_file(path: Path | None, info: ValidationInfo) -> Path | None:
    connect(info.data.get("redis_url", _ENCRYPTED).get_secret_value(), ca_file=path)
    return path


def _redis_iam(iam: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
    connect(info.data.get("redis_url", _ENCRYPTED).get_secret_value(), iam=iam, ca_file=info.data.get("redis_ca_file"))
    return iam


def _broker_url(url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    if url is None and info.data.get("redis_cluster"):
        raise ValueError(f"is required with {PREFIX}REDIS_CLUSTER, since Celery can't use a Cluster as its broker")
    if url and not is_broker_url(url.get_secret_value()):
        raise ValueError("must be a URL of a transport that Celery has, such as redis://host:6379/0")
    if url and "redis_url" in info.data:
        redis_url: SecretStr = info.data["redis_url"]
        ca_file, iam = info.data.get("redis_ca_file"), info.data.get("redis_iam", False)
        for_celery(url.get_secret_value(), redis_url.get_secret_value(), ca_file=ca_file, iam=iam)
    return url


def _readable(path: Path | None) -> Path | None:
    if path and not os.access(path, os.R_OK):
        raise ValueError("can't be read")
    return path


def _heartbeat_file(path: Path | None) -> Path | None:
    if path and not os.access(path.parent, os.W_OK):
        raise ValueError("must be in a folder that can be written")
    return path


def _signing_trusted(trusted: Path | None, info: ValidationInfo) -> Path | None:
    key, certificate = info.data.get("signing_key"), info.data.get("signing_certificate")
    if key and certificate and trusted:
        SigningKeys(key, certificate, trusted).check()
    elif key or certificate or trusted:
        raise ValueError(f"is needed with {PREFIX}SIGNING_KEY and {PREFIX}SIGNING_CERTIFICATE: all three, or none")
    return trusted


def _memory_low(share: float, info: ValidationInfo) -> float:
    if share >= info.data.get("memory_high", 1):
        raise ValueError(f"must be below {PREFIX}MEMORY_HIGH")
    return share


def _archive_url(url: str) -> str:
    parse_archive_url(url)
    return url


def _export_url(url: str | None) -> str | None:
    if url is not None and isinstance(parse_archive_url(url), Path):
        raise ValueError("must be gs://bucket/prefix")
    return url


def _namespace(namespace: str) -> str:
    try:
        return check_namespace(namespace)
    except InvalidArgument as exc:
        raise ValueError(str(exc)) from exc


_File = Annotated[Path | None, BeforeValidator(_none)]
Seconds = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
RedisCluster = Annotated[bool, AfterValidator(_redis_cluster)]
RedisCaFile = Annotated[_File, AfterValidator(_redis_ca_file)]
RedisIam = Annotated[bool, AfterValidator(_redis_iam)]
BrokerUrl = Annotated[SecretStr | None, AfterValidator(_broker_url)]
ReadableFile = Annotated[_File, AfterValidator(_readable)]
SigningTrusted = Annotated[ReadableFile, AfterValidator(_signing_trusted)]
HeartbeatFile = Annotated[_File, AfterValidator(_heartbeat_file)]
ArchiveUrl = Annotated[str, AfterValidator(_archive_url)]
ExportUrl = Annotated[str | None, AfterValidator(_export_url)]
Namespace = Annotated[str, AfterValidator(_namespace)]
MemoryLow = Annotated[float, AfterValidator(_memory_low)]
