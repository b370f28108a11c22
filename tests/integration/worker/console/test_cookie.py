"""The cookie of the console: browsers drop a large one without a word, and send it to all ports of a host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import httpx
import pytest
import redis
from starlette.responses import Response

from support.cli_sessions import say
from support.guarded_console import SECRET, Served, served, served_behind
from support.iap import IdentityProxy
from support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from support.pages_read import browser as reader
from torpor.worker.console.pages.transcript import MOST_WHY
from torpor.worker.console.serving.page_table import PAGES
from torpor.worker.console.sign_in.oidc import OidcSignIn
from torpor.worker.console.sign_in.token import TokenSignIn
from torpor.worker.console.visit import Visit
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow

# Of the name and the value; what is larger is dropped: https://httpwg.org/http-extensions/draft-ietf-httpbis-rfc6265bis
MOST_BYTES = 4096


def watched(client: httpx.Client) -> httpx.Client:
    """The same client, which accepts no cookie that browsers drop."""

    def check(reply: httpx.Response) -> None:
        sizes = [len(given.partition(";")[0]) for given in reply.headers.get_list("set-cookie")]
        assert all(size <= MOST_BYTES for size in sizes), (reply.request.url.path, sizes)

    client.event_hooks = {"response": [check]}
    return client


@pytest.fixture
def oidc(services: Services) -> Iterator[Served]:
    with IdentityProvider().running() as provider:
        settings = {
            "sign_in": "oidc",
            "secret": SECRET,
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "officers": "dpo@example.com",
        }
        with served(services, lambda own: OidcSignIn(own, services.sessions), **settings) as console:
            yield console


def test_somebody_can_sign_in_who_has_begun_to_many_times_before(oidc: Served) -> None:
    with oidc.browser() as opened:
        person = watched(opened)
        for _ in range(10):
            assert person.get("/sign-in").status_code == 302
        assert person.get("/sign-in", follow_redirects=True).status_code == 200


@pytest.mark.parametrize(("owner", "path"), [("a", "/person"), ("\u0436" * 512, "/")], ids=["short", "long"])
def test_somebody_can_sign_in_whatever_page_was_asked_for(oidc: Served, owner: str, path: str) -> None:
    with oidc.browser() as opened:
        asked = httpx.URL("/person", params={"owner": owner})
        for _ in range(3):
            page = watched(opened).get("/sign-in", params={"next": str(asked)}, follow_redirects=True)
            assert (page.status_code, page.url.path) == (200, path)


@pytest.mark.parametrize("letter", ["a", "\u0436", '"'])
def test_the_reason_for_a_transcript_is_remembered_in_any_alphabet_or_refused(
    client: redis.Redis, services: Services, letter: str
) -> None:
    say(client, "s", "secret words")
    strict = replace(services, settings=services.settings.model_copy(update={"require_reason": True}))
    with reader(strict) as console:
        watched(console.http)
        assert f'maxlength="{MOST_WHY}"' in console.get("/session/transcript", id="s").source
        for length in (MOST_WHY, 10_000):
            page = console.post("/session/transcript/reason?id=s", {"reason": letter * length})
            shown = (page.status, "secret words" in page.text)
            assert shown == ((200, True) if length == MOST_WHY else (400, False)), length
        assert "secret words" in console.get("/session/transcript", id="s").text


def test_what_is_said_after_an_act_fits_in_any_alphabet(
    client: redis.Redis, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(visit: Visit) -> Response:
        visit.warnings.extend(["\u0436" * 1_000] * 5)
        return visit.go_to("/holds", "\u0434" * 1_000)

    told = [replace(page, answer=tell) if page.path == "/sessions/stop" else page for page in PAGES]
    monkeypatch.setattr("torpor.worker.console.serving.application.PAGES", told)
    with reader(services) as console:
        watched(console.http)
        page = console.post("/sessions/stop", {"search": "x"})
    assert ("\u0434" * 50 in page.text, page.text.count("Warning:")) == (True, 2)


def test_consoles_on_several_ports_of_a_machine_do_not_sign_each_other_out(services: Services) -> None:
    with ExitStack() as stack:
        consoles = [stack.enter_context(served(services, lambda _: TokenSignIn("the token"))) for _ in range(2)]
        person = stack.enter_context(httpx.Client(trust_env=False, follow_redirects=True))
        for console in consoles:
            assert person.get(f"{console.url}/sign-in?token=the+token").status_code == 200
        assert [person.get(console.url).status_code for console in consoles * 2] == [200] * 4


@pytest.mark.parametrize("codec", ["punycode", "idna", "unicode_escape", "utf-8"])
def test_a_form_that_chooses_its_codec_is_refused_unread(
    services: Services, identity_proxy: IdentityProxy, codec: str
) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\na-' + b"b9" * 100_000 + b"\r\n--x--\r\n"
    kind = {"content-type": f"multipart/form-data; boundary=x; charset={codec}"}
    with served_behind(identity_proxy, services) as console, console.browser() as person:
        signed = identity_proxy.sign("officer@example.com")
        reply = person.post("/hold/set", content=body, headers=kind | signed)
    assert (reply.status_code, "no longer valid" in reply.text) == (403, True)
    assert reply.elapsed.total_seconds() < 2
