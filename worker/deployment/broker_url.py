"""The broker's URL: what Celery accepts, and how Celery must get it for encryption and IAM."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from torpor.history.protocol import InvalidArgument, is_instances_own


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
    given = dict(parse_qsl(parts.query))
    if parts.scheme == "rediss":
        # kombu and Celery's result backend read these from the query. Without the first, kombu trusts any certificate.
        options = {"ssl_cert_reqs": "required"}
        if _address(url) == _address(redis_url):
            if ca_file and "ssl_ca_certs" not in given:
                names = "false" if is_instances_own(ca_file) else "true"
                options |= {"ssl_ca_certs": str(ca_file), "ssl_check_hostname": names}
            if iam:
                options |= {"credential_provider": "torpor.application_default"}
        given = options | given
        url = parts._replace(query=urlencode(given)).geturl()
    if "credential_provider" in given and given.get("ssl_cert_reqs") != "required":
        raise InvalidArgument("IAM needs rediss:// with ssl_cert_reqs=required: anybody could be sent the token")
    return re.sub(r"^unix://", "redis+socket://", url)


def _address(url: str) -> tuple[str | None, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or 6379


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False
