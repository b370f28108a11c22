"""The broker's URL: what Celery accepts, and how Celery must get it for encryption and IAM."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit


def is_broker_url(urls: str) -> bool:
    """True if each of these URLs, separated by ';', is of a transport that Celery has."""
    from kombu.transport import TRANSPORT_ALIASES  # takes a tenth of a second to import

    transports = {"unix", *TRANSPORT_ALIASES}
    return all(url.partition("://")[0] in transports and _has_valid_port(url) for url in urls.split(";"))


def for_celery(urls: str, redis_url: str, *, ca_file: Path | None, iam: bool) -> str:
    """URLs as Celery's settings want them. `ca_file` and `iam` are for a broker that is the Redis of `redis_url`."""
    return ";".join(_for_celery(url, redis_url, ca_file=ca_file, iam=iam) for url in urls.split(";"))


def _for_celery(url: str, redis_url: str, *, ca_file: Path | None, iam: bool) -> str:
    parts = urlsplit(url)
    if parts.scheme == "rediss":
        # kombu and Celery's result backend read these from the query. Without the first, kombu trusts any certificate.
        options = {"ssl_cert_reqs": "required"}
        if _address(url) == _address(redis_url):
            if ca_file:
                options |= {"ssl_ca_certs": str(ca_file), "ssl_check_hostname": "false"}
            if iam:
                options |= {"credential_provider": "torpor.application_default"}
        url = parts._replace(query=urlencode({**options, **dict(parse_qsl(parts.query))})).geturl()
    return re.sub(r"^unix://", "redis+socket://", url)


def _address(url: str) -> tuple[str | None, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or 6379


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False
