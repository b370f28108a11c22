"""Signing in by Identity-Aware Proxy: which signatures the console believes, and how it gets the keys."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth import jwt
from google.auth.crypt import RSASigner

from support.guarded_console import PEOPLE, Served, csrf
from support.iap import AUDIENCE, HEADER, IdentityProxy
from torpor.worker.console.roles import Role
from torpor.worker.console.sign_in import signing_keys

ANN = PEOPLE[Role.OFFICER]
NOW = int(time.time())


def get(console: Served, headers: dict[str, str], path: str = "/") -> httpx.Response:
    with console.browser() as browser:
        return browser.get(path, headers=headers)


def test_a_signed_request_is_a_persons_with_the_roles_of_the_address_whatever_its_case(
    behind_iap: Served, identity_proxy: IdentityProxy
) -> None:
    for email in (ANN, ANN.upper()):
        page = get(behind_iap, identity_proxy.sign(email))
        assert (page.status_code, f"{ANN} <" in page.text, "officer" in page.text) == (200, True, True)
    assert identity_proxy.reads == 1


WRONG: dict[str, dict[str, Any]] = {
    "expired": {"iat": NOW - 700, "exp": NOW - 100},
    "from the future": {"iat": NOW + 3_000, "exp": NOW + 3_600},
    "without an end": {"exp": None},
    "an end that is no number": {"exp": "9999999999"},
    "for another service": {"aud": AUDIENCE + "7"},
    "for several services": {"aud": [AUDIENCE]},
    "for nobody": {"aud": None},
    "of another issuer": {"iss": "https://accounts.google.com"},
    "of no issuer": {"iss": None},
    "no address": {"email": None},
    "an address that is none": {"email": {"officer": ANN}},
    "a domain": {"email": "@example.com"},
    "of another tenant": {"email": f"securetoken.google.com/project/tenant:{ANN}"},
    "two addresses": {"email": f"eve@elsewhere.example,{ANN}"},
    "two lines": {"email": f"{ANN}\nx"},
}


def test_a_signed_request_for_others_or_for_another_time_is_nobodys(
    behind_iap: Served, identity_proxy: IdentityProxy
) -> None:
    for name, claims in WRONG.items():
        assert get(behind_iap, identity_proxy.sign(ANN, **claims)).status_code == 401, name
    assert get(behind_iap, identity_proxy.sign(ANN, iat=NOW - 610, exp=int(time.time()) - 10)).status_code == 200


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def by_hand(proxy: IdentityProxy, header: dict[str, Any], signature: bytes = b"") -> dict[str, str]:
    return {HEADER: f"{part(header)}.{part(proxy.claims(ANN))}.{part(signature)}"}


def shared(proxy: IdentityProxy) -> dict[str, str]:
    """Signed with the public key as if it were a secret that both sides share."""
    signed = f"{part({'alg': 'HS256', 'kid': proxy.key_id})}.{part(proxy.claims(ANN))}"
    code = hmac.HMAC(proxy.public_keys[proxy.key_id].encode(), hashes.SHA256())
    code.update(signed.encode())
    return {HEADER: f"{signed}.{part(code.finalize())}"}


def with_rsa(proxy: IdentityProxy) -> dict[str, str]:
    key = rsa.generate_private_key(65_537, 2_048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    signer: Any = RSASigner.from_string(pem, key_id=proxy.key_id)  # type: ignore[no-untyped-call]
    return {HEADER: jwt.encode(signer, proxy.claims(ANN)).decode()}  # type: ignore[no-untyped-call]


def test_a_forged_signature_is_nobodys(behind_iap: Served, identity_proxy: IdentityProxy) -> None:
    kid = identity_proxy.key_id
    signed = identity_proxy.sign(ANN)[HEADER]
    head, body, signature = signed.split(".")
    other = part(identity_proxy.claims(PEOPLE[Role.OPERATOR]))
    forged = {
        "not signed": by_hand(identity_proxy, {"alg": "none", "kid": kid}),
        "no algorithm": by_hand(identity_proxy, {"kid": kid}),
        "no key": by_hand(identity_proxy, {"alg": "ES256"}),
        "a key that is no text": by_hand(identity_proxy, {"alg": "ES256", "kid": {"a": 1}}),
        "an algorithm that is no text": by_hand(identity_proxy, {"alg": ["ES256"], "kid": kid}),
        "an empty signature": by_hand(identity_proxy, {"alg": "ES256", "kid": kid}),
        "a shared secret": shared(identity_proxy),
        "RSA": with_rsa(identity_proxy),
        "another key": identity_proxy.sign(ANN, key=ec.generate_private_key(ec.SECP256R1())),
        "another's words": {HEADER: f"{head}.{other}.{signature}"},
        "a changed signature": {HEADER: f"{head}.{body}.{signature[:-4]}AAAA"},
        "two parts": {HEADER: f"{head}.{body}"},
        "four parts": {HEADER: f"{signed}.x"},
        "no JSON": {HEADER: f"{part(b'no')}.{body}.{signature}"},
        "JSON that is too deep": {HEADER: f"{part(b'[' * 5_000)}.{body}.{signature}"},
        "too long": {HEADER: f"{head}.{body}.{signature}{'A' * 9_000}"},
        "blank": {HEADER: ""},
    }
    for name, headers in forged.items():
        assert get(behind_iap, headers).status_code == 401, name
    assert get(behind_iap, {HEADER: signed}).status_code == 200


def test_another_person_at_the_same_browser_gets_nothing_of_the_first_ones_session(
    behind_iap: Served, identity_proxy: IdentityProxy
) -> None:
    with behind_iap.browser(headers=identity_proxy.sign(ANN)) as browser:
        browser.get("/")
        first = csrf(browser)
        browser.headers.update(identity_proxy.sign(PEOPLE[Role.OPERATOR]))
        assert browser.post("/hold/set", data={"csrf": first, "session": "s", "reason": "r"}).status_code == 403
        browser.get("/")
        assert csrf(browser) not in {"", first}
        browser.headers.update(identity_proxy.sign(ANN))
        refused = browser.post("/hold/set", data={"csrf": first, "session": "s", "reason": "r"})
        assert (refused.status_code, "no longer valid" in refused.text) == (403, True)


def test_two_signatures_are_nobodys(behind_iap: Served, identity_proxy: IdentityProxy) -> None:
    [(name, value)] = identity_proxy.sign(ANN).items()
    with behind_iap.browser() as browser:
        assert browser.get("/", headers=[(name, value), (name, value)]).status_code == 401


def test_a_new_key_is_read_and_nobody_can_have_the_keys_read_again_and_again(
    behind_iap: Served, identity_proxy: IdentityProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get(behind_iap, identity_proxy.sign(ANN)).status_code == 200
    identity_proxy.rotate("second")
    for _ in range(5):
        assert get(behind_iap, identity_proxy.sign(ANN)).status_code == 401
        assert get(behind_iap, by_hand(identity_proxy, {"alg": "ES256", "kid": "none"})).status_code == 401
    assert identity_proxy.reads == 1
    monkeypatch.setattr(signing_keys, "_AGAIN_SECONDS", 0)
    assert get(behind_iap, identity_proxy.sign(ANN)).status_code == 200
    assert identity_proxy.reads == 2


def test_keys_that_can_not_be_read_are_told_of_and_old_ones_count_for_some_hours(
    behind_iap: Served, identity_proxy: IdentityProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity_proxy.answers = False
    for _ in range(3):
        reply = get(behind_iap, identity_proxy.sign(ANN))
        assert (reply.status_code, "can&#39;t be read" in reply.text) == (503, True)
    assert identity_proxy.reads == 1
    identity_proxy.answers = True
    monkeypatch.setattr(signing_keys, "_RETRY_SECONDS", 0)
    assert get(behind_iap, identity_proxy.sign(ANN)).status_code == 200
    identity_proxy.answers = False
    monkeypatch.setattr(signing_keys, "_FRESH_SECONDS", -1)
    monkeypatch.setattr(signing_keys, "_AGAIN_SECONDS", 0)
    assert get(behind_iap, identity_proxy.sign(ANN)).status_code == 200
    assert identity_proxy.reads == 3
    monkeypatch.setattr(signing_keys, "_KEPT_SECONDS", -1)
    assert get(behind_iap, identity_proxy.sign(ANN)).status_code == 503
