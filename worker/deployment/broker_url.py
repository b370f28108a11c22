"""The broker's URL: what Celery accepts, and how Celery must get it for encryption and IAM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from redis.connection import FALSE_STRINGS

from torpor.history.protocol import InvalidArgument, is_instances_own

_GUARDS = {"credential_provider", "password", "ssl_certfile"}


def is_broker_url(urls: str) -> bool:
    """True if each of these URLs, separated by ';', is of a transport that Celery has."""
    from kombu.transport import TRANSPORT_ALIASES  # takes a tenth of a second to import

    transports = {"unix", *TRANSPORT_ALIASES}
    return all(url.partition("://")[0] in transports and _has_valid_port(url) for url in urls.split(";"))


def is_guarded(urls: str) -> bool:
    """True if each of these URLs has a password, a certificate of the client or a credential provider."""
    return all(
        urlsplit(url).password or _GUARDS & dict(parse_qsl(urlsplit(url).query)).keys() for url in urls.split(";")
    )


def trusts_one_authority(urls: str) -> bool:
    """True if the broker's name is not compared, so that no other authorities than its own must be trusted."""
    return not _compares_names(dict(parse_qsl(urlsplit(urls).query)))


def for_celery(urls: str, redis_url: str, *, ca_file: Path | None, iam: bool) -> str:
    """URLs as Celery's settings want them. `ca_file` and `iam` are for a broker that is the Redis of `redis_url`.

    Raises InvalidArgument if a password or a token could be sent to a server that is not the broker.
    """
    each = [_for_celery(url, redis_url, ca_file=ca_file, iam=iam) for url in urls.split(";")]
    if len(each) > 1 and any(map(trusts_one_authority, each)):
        raise InvalidArgument(
            "of several brokers, none may have ssl_check_hostname=false"
        )  # kombu forgets its transport
    return ";".join(each)


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
        if not _compares_names(given):
            given["ssl_check_hostname"] = "false"  # kombu takes no other word for it
        url = parts._replace(query=urlencode(given)).geturl()
    _check_trust(parts, given)
    return re.sub(r"^unix://", "redis+socket://", url)


def _check_trust(parts: SplitResult, given: Mapping[str, str]) -> None:
    checked = given.get("ssl_cert_reqs") == "required"
    if "credential_provider" in given and not checked:
        raise InvalidArgument("IAM needs rediss:// with ssl_cert_reqs=required: anybody could be sent the token")
    if parts.scheme != "rediss" or not (_GUARDS & given.keys() or parts.password):
        return
    if not checked:
        raise InvalidArgument("a password needs ssl_cert_reqs=required: whoever answers would be sent it")
    if not _compares_names(given) and "ssl_ca_certs" not in given:
        raise InvalidArgument("ssl_check_hostname=false needs ssl_ca_certs, whose authorities alone are then trusted")


def _compares_names(given: Mapping[str, str]) -> bool:
    return given.get("ssl_check_hostname", "true").upper() not in FALSE_STRINGS


def _address(url: str) -> tuple[str | None, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or 6379


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False
