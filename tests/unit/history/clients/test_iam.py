"""IAM tokens as credentials: when they are renewed, by whom, and what happens if they can't be."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import google.auth.credentials
import google.auth.exceptions
import pytest

from support.tokens import Tokens
from support.waiting import wait_until
from torpor import application_default
from torpor.history.clients.iam import IamCredentialProvider
from torpor.history.protocol import InvalidArgument, RedisUnavailable, connect

HOUR = timedelta(hours=1)
AHEAD = timedelta(minutes=3, seconds=45)


class Clock(datetime):
    """The clock that provider and source look at."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + cls.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    for module in ("torpor.history.clients.iam", "support.tokens"):
        monkeypatch.setattr(f"{module}.datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", timedelta(0))
    return Clock


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    application_default.cache_clear()


def slow(tokens: Tokens) -> tuple[threading.Event, threading.Event]:
    """Have the source take its time: one event is set when it is asked, it goes on when the other is."""
    asked, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        assert go_on.wait(30)

    tokens.before = wait
    return asked, go_on


def fail() -> None:
    raise OSError("no metadata server")


def test_a_token_comes_with_the_only_user_name_there_is() -> None:
    tokens = Tokens()
    provider = IamCredentialProvider(tokens)
    assert provider.get_credentials() == ("default", tokens.token)
    assert asyncio.run(provider.get_credentials_async()) == ("default", tokens.token)
    assert len(tokens.issued) == 1


def test_a_token_is_renewed_in_its_last_minutes_and_not_before(clock: type[Clock]) -> None:
    tokens = Tokens()
    provider = IamCredentialProvider(tokens)
    first = provider.get_credentials()
    clock.ahead = HOUR - AHEAD - timedelta(seconds=10)
    assert provider.get_credentials() == first
    clock.ahead = HOUR - AHEAD + timedelta(seconds=10)
    assert provider.get_credentials() == ("default", tokens.token)
    assert len(tokens.issued) == 2


@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=-8))])
def test_the_end_of_a_token_is_in_utc_or_says_its_zone(zone: timezone | None, clock: type[Clock]) -> None:
    class Zoned(Tokens):
        def refresh(self, request: Any) -> None:
            super().refresh(request)
            if zone and self.expiry:
                self.expiry = self.expiry.replace(tzinfo=UTC).astimezone(zone)

    tokens = Zoned()
    provider = IamCredentialProvider(tokens)
    for ahead, issued in ((timedelta(0), 1), (HOUR / 2, 1), (HOUR, 2)):
        clock.ahead = ahead
        provider.get_credentials()
        assert len(tokens.issued) == issued


def test_a_token_without_an_end_is_never_renewed(clock: type[Clock]) -> None:
    tokens = Tokens(life=None)
    provider = IamCredentialProvider(tokens)
    provider.get_credentials()
    clock.ahead = 10_000 * HOUR
    provider.get_credentials()
    assert len(tokens.issued) == 1


def test_a_token_that_can_not_be_renewed_is_used_until_it_ends(
    clock: type[Clock], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.history.clients.iam._PAUSE_SECONDS", 0)
    tokens = Tokens()
    provider = IamCredentialProvider(tokens)
    first = provider.get_credentials()
    tokens.before = fail
    clock.ahead = HOUR - timedelta(seconds=10)
    with caplog.at_level(logging.WARNING, "history.iam"):
        assert provider.get_credentials() == first
        assert asyncio.run(provider.get_credentials_async()) == first
    assert caplog.messages == ["the IAM access token can't be renewed: no metadata server"] * 2
    clock.ahead = HOUR
    with pytest.raises(RedisUnavailable, match="there is no IAM access token: no metadata server") as caught:
        provider.get_credentials()
    assert caught.value.__suppress_context__, "what Google answered is in no traceback"
    with pytest.raises(RedisUnavailable, match="there is no IAM access token"):
        asyncio.run(provider.get_credentials_async())
    tokens.before = lambda: None
    assert provider.get_credentials() == ("default", tokens.token)
    assert first[1] not in f"{caught.value!r} {caplog.text} {provider!r} {vars(provider)}"


@pytest.mark.parametrize(("token", "life"), [(None, HOUR), ("", HOUR), ("ya29", -HOUR)])
def test_a_source_that_gives_no_valid_token_has_failed(token: str | None, life: timedelta) -> None:
    class Broken(Tokens):
        def refresh(self, request: Any) -> None:
            super().refresh(request)
            self.token = token

    with pytest.raises(RedisUnavailable, match="the source gave no valid token"):
        IamCredentialProvider(Broken(life=life)).get_credentials()


def test_nobody_waits_for_a_renewal_while_the_old_token_is_valid(clock: type[Clock]) -> None:
    tokens = Tokens()
    provider = IamCredentialProvider(tokens)
    first = provider.get_credentials()
    clock.ahead = HOUR - AHEAD + timedelta(seconds=10)
    asked, go_on = slow(tokens)
    with ThreadPoolExecutor(1) as threads:
        renewal = threads.submit(provider.get_credentials)
        assert asked.wait(30)
        assert provider.get_credentials() == first
        assert asyncio.run(provider.get_credentials_async()) == first
        go_on.set()
        assert renewal.result() != first


def test_those_who_wait_for_an_attempt_that_fails_do_not_make_others() -> None:
    tokens = Tokens()
    provider = IamCredentialProvider(tokens)
    attempts: list[None] = []

    def fail_late() -> None:
        attempts.append(None)
        wait_until(lambda: started.n_waiting == 0 and arrived[0] == 8)
        fail()

    started = threading.Barrier(8)
    arrived = [0]
    tokens.before = fail_late

    def ask(_: int) -> str:
        started.wait()
        arrived[0] += 1
        with pytest.raises(RedisUnavailable) as caught:
            provider.get_credentials()
        return str(caught.value)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(8))) == {"there is no IAM access token: no metadata server"}
    assert len(attempts) == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_is_forked_during_a_renewal_asks_for_itself() -> None:
    tokens = Tokens()
    provider = IamCredentialProvider(tokens)
    asked, go_on = slow(tokens)
    with ThreadPoolExecutor(1) as threads:
        renewal = threads.submit(provider.get_credentials)
        assert asked.wait(30)
        child = os.fork()
        if not child:
            signal.alarm(10)  # ends a child that waits for a lock that nobody will release
            tokens.before = lambda: None
            os._exit(provider.get_credentials() != ("default", tokens.token))
        ended = os.waitpid(child, 0)
        go_on.set()
        assert ended == (child, 0)
        assert renewal.result() == ("default", tokens.token)


def test_credentials_of_google_are_a_source() -> None:
    class Impersonated(google.auth.credentials.Credentials):
        def refresh(self, request: Any) -> None:
            self.token, self.expiry = "ya29.impersonated", datetime.now(UTC).replace(tzinfo=None) + HOUR
            assert callable(request)

    source = Impersonated()  # type: ignore[no-untyped-call] # of google-auth
    connect("rediss://localhost:6379", iam=source)
    assert IamCredentialProvider(source).get_credentials() == ("default", "ya29.impersonated")


def test_what_a_source_was_answered_is_not_told() -> None:
    def fail_with_the_answer() -> None:
        error: Any = google.auth.exceptions.RefreshError
        raise error(error("no expiration in response", {"access_token": "ya29.secret"}))

    tokens = Tokens()
    tokens.before = fail_with_the_answer
    with pytest.raises(RedisUnavailable, match=r"there is no IAM access token: no expiration in response$") as caught:
        IamCredentialProvider(tokens).get_credentials()
    assert "ya29" not in f"{caught.value!r}"


def test_without_google_auth_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth.transport.requests", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'torpor\[iam\]'"):
        connect("rediss://localhost:6379", iam=True)
    assert connect("rediss://localhost:6379", iam=Tokens()), "which needs nothing of Google's"


def test_the_clients_of_a_process_share_the_tokens_of_the_application_default_credentials() -> None:
    first, second = (connect("rediss://localhost:6379", iam=True) for _ in range(2))
    providers = {each.connection_pool.connection_kwargs["credential_provider"] for each in (first, second)}
    assert providers == {application_default()}
