"""Signing in by OpenID Connect: whom the console believes, and what ends a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
import redis
from joserfc.jwk import OctKey, RSAKey

from support.guarded_console import SECRET, Served, csrf, served
from support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from support.keyspace import raw
from support.ports import free_port
from torpor.history.protocol import SessionStore
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.console.sign_in import SESSION_SECONDS
from torpor.worker.console.sign_in.oidc import OidcSignIn
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider().running() as running:
        yield running


def by_oidc(sessions: SessionStore) -> Callable[[ConsoleSettings], OidcSignIn]:
    return lambda settings: OidcSignIn(settings, sessions)


@pytest.fixture
def console(services: Services, provider: IdentityProvider) -> Iterator[Served]:
    settings = {
        "sign_in": "oidc",
        "secret": SECRET,
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "officers": "DPO@example.com",
        "viewers": "@viewers.example",
    }
    with served(services, by_oidc(services.sessions), **settings) as running:
        yield running


@pytest.fixture
def browser(console: Served) -> Iterator[httpx.Client]:
    with console.browser() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _discreet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No log line of a test has a secret, a code, or the name of a person."""
    yield
    told = "\n".join(record.getMessage() for record in caplog.get_records("call"))
    assert not [text for text in (SECRET, CLIENT_SECRET, "code=", "state=", "@", "eyJ") if text in told], told


def sign_in(browser: httpx.Client, path: str = "/") -> httpx.Response:
    """Follow the link of the page that asks for it, to the provider and back."""
    return browser.get("/sign-in", params={"next": path}, follow_redirects=True)


def to_provider(browser: httpx.Client) -> httpx.Response:
    """Begin to sign in: the reply leads to the provider."""
    return browser.get("/sign-in")


def test_somebody_signs_in_and_comes_back_to_the_page_that_was_asked_for(browser: httpx.Client) -> None:
    asked = browser.get("/samples", params={"span": "week"})
    assert (asked.status_code, "/sign-in?next=/samples%3Fspan%3Dweek" in asked.text) == (401, True)
    back = sign_in(browser, "/samples?span=week")
    assert (back.status_code, back.url.path, back.url.query) == (200, "/samples", b"span=week")
    page = browser.get("/")
    assert (page.status_code, "dpo@example.com" in page.text, "officer" in page.text) == (200, True, True)


@pytest.mark.parametrize(("email", "algorithm"), [("Ann@Viewers.EXAMPLE", "RS256"), ("bob@viewers.example", "ES256")])
def test_everybody_at_a_domain_has_its_role_whatever_the_case(
    browser: httpx.Client, provider: IdentityProvider, email: str, algorithm: str
) -> None:
    provider.email, provider.algorithm = email, algorithm
    page = sign_in(browser)
    assert (page.status_code, email.lower() in page.text, "viewer" in page.text) == (200, True, True)


def test_somebody_without_a_role_is_named_and_gets_nothing(browser: httpx.Client, provider: IdentityProvider) -> None:
    for email in ("eve@elsewhere.example", "dpo@example.com.elsewhere.example", "ann@x.viewers.example"):
        provider.email = email
        page = sign_in(browser)
        assert (page.status_code, f"{email} has no role" in page.text) == (403, True)


def by_another_key(provider: IdentityProvider) -> None:
    provider.signing_key = RSAKey.generate_key(2048, {"kid": "rsa"})


def by_the_shared_secret(provider: IdentityProvider) -> None:
    provider.algorithm, provider.signing_key = "HS256", OctKey.import_key(CLIENT_SECRET)


def unsigned(provider: IdentityProvider) -> None:
    provider.unsigned = True


def without_id_token(provider: IdentityProvider) -> None:
    provider.with_id_token = False


FORGERIES: dict[str, Callable[[IdentityProvider], None]] = {
    "signed by another key": by_another_key,
    "signed with the shared secret": by_the_shared_secret,
    "not signed": unsigned,
    "no token of an identity": without_id_token,
}
WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "not verified": {"email_verified": False},
    "verified as text": {"email_verified": "true"},
    "not said to be verified": {"email_verified": None},
    "no address": {"email": None},
    "an address that is none": {"email": ["dpo@example.com"]},
    "a domain": {"email": "@viewers.example"},
    "two addresses": {"email": "eve@elsewhere.example,dpo@example.com"},
    "another client's": {"aud": "another-client"},
    "another client's, by way of this one": {"aud": "another-client", "azp": CLIENT_ID},
    "another client's as a list": {"aud": ["another-client"], "azp": CLIENT_ID},
    "nobody's": {"aud": None},
    "of another provider": {"iss": "https://accounts.elsewhere.example"},
    "of an earlier request": {"nonce": "another"},
    "of no request": {"nonce": None},
    "expired": {"exp": 1_700_000_000},
    "without an end": {"exp": None},
    "from the future": {"iat": 9_999_999_999},
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_answer_of_the_provider_signs_nobody_in(
    browser: httpx.Client, provider: IdentityProvider, forge: Callable[[IdentityProvider], None]
) -> None:
    forge(provider)
    assert is_refused(browser, sign_in(browser))


def test_a_signed_answer_that_does_not_name_a_verified_person_for_this_request_signs_nobody_in(
    browser: httpx.Client, provider: IdentityProvider
) -> None:
    for name, claims in WRONG_CLAIMS.items():
        provider.claims = claims
        assert is_refused(browser, sign_in(browser)), name
    provider.claims = {}
    assert sign_in(browser).status_code == 200


def is_refused(browser: httpx.Client, reply: httpx.Response) -> bool:
    """True if nobody was signed in, and the browser is told so."""
    said = reply.status_code == 403 and "did not name you" in reply.text
    return said and browser.get("/").status_code == 401


def test_an_answer_to_another_browser_signs_nobody_in(console: Served, browser: httpx.Client) -> None:
    answer = browser.get(to_provider(browser).headers["location"]).headers["location"]
    with console.browser() as victim:
        assert is_refused(victim, victim.get(answer))
        to_provider(victim)
        assert is_refused(victim, victim.get(answer))


def test_an_answer_with_another_state_or_code_signs_nobody_in(browser: httpx.Client) -> None:
    for changed in ({"state": "another"}, {"state": ""}, {"code": "another"}, {"code": ""}):
        answer = urlsplit(browser.get(to_provider(browser).headers["location"]).headers["location"])
        query = {name: values[0] for name, values in parse_qs(answer.query).items()} | changed
        assert is_refused(browser, browser.get(f"{answer.path}?{urlencode(query)}")), changed


def test_an_answer_counts_once(console: Served, browser: httpx.Client) -> None:
    answer = browser.get(to_provider(browser).headers["location"]).headers["location"]
    before = dict(browser.cookies)
    assert browser.get(answer).status_code == 303
    with console.browser(cookies=before) as again:
        assert is_refused(again, again.get(answer))


def test_the_provider_refuses_and_nobody_is_signed_in(browser: httpx.Client) -> None:
    to_provider(browser)
    hostile = "<script>evil()</script>"
    reply = browser.get("/sign-in/done", params={"error": hostile, "error_description": hostile, "state": "x"})
    assert is_refused(browser, reply)
    assert "evil" not in reply.text


def test_signing_in_gives_the_browser_new_forms_and_signing_out_ends_its_session_for_good(
    console: Served, browser: httpx.Client
) -> None:
    browser.get("/")
    before = csrf(browser)
    sign_in(browser)
    assert before
    browser.get("/")
    assert csrf(browser) not in {"", before}
    copied = dict(browser.cookies)
    assert browser.post("/sign-out", data={"csrf": "wrong"}).status_code == 403
    assert browser.get("/sign-out").status_code == 405
    assert browser.get("/").status_code == 200
    left = browser.post("/sign-out", data={"csrf": csrf(browser)})
    assert (left.status_code, "You are signed out" in left.text) == (200, True)
    assert browser.get("/").status_code == 401
    with console.browser(cookies=copied) as thief:
        assert thief.get("/").status_code == 401


def with_secrets(console: Served) -> dict[str, Any]:
    """The settings of a console as another process of it has them."""
    return console.settings.model_dump(exclude={"port"}) | {"secret": SECRET, "oidc_client_secret": CLIENT_SECRET}


def test_signing_out_ends_the_session_in_every_process_of_the_console(
    console: Served, browser: httpx.Client, services: Services
) -> None:
    sign_in(browser)
    browser.get("/")
    options = {"cookies": dict(browser.cookies), "headers": {"host": urlsplit(console.url).netloc}}
    another = served(services, by_oidc(services.sessions), **with_secrets(console))
    with another as other, other.browser(**options) as copy:
        assert copy.get("/").status_code == 200
        left = browser.post("/sign-out", data={"csrf": csrf(browser)})
        assert (left.status_code, "Redis does not answer" in left.text) == (200, False)
        assert copy.get("/").status_code == 401
    [key] = raw(services.sessions.client, "KEYS", "torpor:console:*")
    assert 0 < raw(services.sessions.client, "PTTL", key) <= SESSION_SECONDS * 1000


def test_while_redis_is_away_nobody_is_believed_and_signing_out_says_what_it_could_not_do(
    console: Served, browser: httpx.Client, services: Services
) -> None:
    sign_in(browser)
    browser.get("/")
    away = SessionStore(redis.Redis(port=free_port(), socket_connect_timeout=1))
    options = {"cookies": dict(browser.cookies), "headers": {"host": urlsplit(console.url).netloc}}
    with served(services, by_oidc(away), **with_secrets(console)) as other, other.browser(**options) as copy:
        assert copy.get("/").status_code == 503
        left = copy.post("/sign-out", data={"csrf": csrf(browser)})
        assert (left.status_code, "Redis does not answer" in left.text) == (200, True)
        copy.cookies = httpx.Cookies(options["cookies"])
        assert copy.get("/").status_code == 401  # this process knows it without Redis
    assert browser.get("/").status_code == 200


def test_a_session_ends_after_eight_hours(
    browser: httpx.Client, console: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(browser)
    monkeypatch.setattr("torpor.worker.console.sign_in.signed_in.SESSION_SECONDS", -1)
    assert browser.get("/").status_code == 401


def test_a_cookie_of_another_console_is_worth_nothing(
    console: Served, browser: httpx.Client, services: Services
) -> None:
    sign_in(browser)
    own = console.settings.model_dump(exclude={"url", "port"}) | {"secret": SECRET[::-1]}
    own["oidc_client_secret"] = CLIENT_SECRET
    with (
        served(services, by_oidc(services.sessions), **own) as another,
        another.browser(cookies=dict(browser.cookies)) as copy,
    ):
        assert copy.get("/").status_code == 401


def test_signing_in_leads_to_no_other_site(browser: httpx.Client) -> None:
    for path in ("//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", "", "/\r\nx: y"):
        reply = browser.get("/sign-in", params={"next": path})
        assert (reply.status_code, "no page of this console" in reply.text) == (400, True), path


def test_a_provider_that_is_away_is_told_of_and_signs_in_when_it_is_back(
    browser: httpx.Client, provider: IdentityProvider
) -> None:
    provider.answers = False
    reply = to_provider(browser)
    assert (reply.status_code, "try again in a minute" in reply.text) == (503, True)
    provider.answers = True
    assert sign_in(browser).status_code == 200


def test_a_provider_with_another_name_than_the_setting_is_refused(
    browser: httpx.Client, provider: IdentityProvider
) -> None:
    provider.issuer_told = "https://accounts.elsewhere.example"
    reply = to_provider(browser)
    assert (reply.status_code, "TORPOR_CONSOLE_OIDC_ISSUER" in reply.text) == (503, True)


def test_the_secret_of_the_client_is_in_no_page_cookie_or_repr(console: Served, browser: httpx.Client) -> None:
    seen = [to_provider(browser).headers["location"], sign_in(browser).text, str(dict(browser.cookies))]
    assert not [text for text in [*seen, repr(console.settings), repr(console.sign_in)] if CLIENT_SECRET in text]
