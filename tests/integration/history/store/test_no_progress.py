"""Replies that would have a walk in steps go on for ever: the walk ends with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from torpor.history import calls
from torpor.history.adoption import Look
from torpor.history.calls import Call
from torpor.history.compression import Compression
from torpor.history.formats.known import FORMATS
from torpor.history.overview import Sample
from torpor.history.protocol import RedisRefused, SessionStore, TranscriptChanged
from torpor.history.session import Page
from torpor.history.store.figures import _SAMPLES

# More steps than any of these walks takes.
_MOST = 100


def replying(patch: pytest.MonkeyPatch, name: str, made_up: Callable[..., Any]) -> None:
    """Let each call of this name have a made-up reply, of the arguments of the call."""
    call, asked = getattr(calls, name), iter(range(_MOST))

    def described(*args: Any, **kwargs: Any) -> Call[Any]:
        next(asked)  # StopIteration: the walk would not end
        return replace(call(*args, **kwargs), decode=lambda _: made_up(*args, **kwargs))

    patch.setattr(calls, name, described)


PAGES = {
    "an empty page": lambda start: Page(1, 0, 5, start, [], complete=True),
    "the first page each time": lambda _: Page(1, 0, 5, 0, [b"{}"], complete=True),
}
of_pages = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


def read_all(sessions: SessionStore) -> list[bytes]:
    return sessions.messages("s", touch=False)


def read_pages(sessions: SessionStore) -> list[Page]:
    return list(sessions.pages("s"))


def repack(sessions: SessionStore) -> object:
    return sessions.repack("s", Compression.ZSTD)


@of_pages
@pytest.mark.parametrize("read", [read_all, read_pages, repack], ids=lambda each: each.__name__)
def test_pages_that_bring_a_reader_no_further_are_an_error(
    sessions: SessionStore,
    monkeypatch: pytest.MonkeyPatch,
    page: Callable[[int], Page],
    read: Callable[[SessionStore], object],
) -> None:
    sessions.append("s", [b"{}"])
    replying(monkeypatch, "read", lambda _, __, start, *___, **____: page(start))
    with pytest.raises(RedisRefused, match="session 's' can't be read"):
        read(sessions)


def test_a_session_that_changes_each_time_it_is_read_is_an_error_that_may_pass(
    sessions: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions.append("s", [b"{}"])
    epochs = iter(range(_MOST))
    replying(monkeypatch, "read", lambda _, __, start, *___, **____: Page(next(epochs), 0, 2, start, [b"{}"]))
    with pytest.raises(TranscriptChanged, match="changed each time"):
        read_all(sessions)


WALKS: dict[str, tuple[Callable[[SessionStore], Iterable[Any]], tuple[Any, ...]]] = {
    "list_sessions": (lambda sessions: sessions.sessions(), ([],)),
    "owned": (lambda sessions: sessions.owned("ann"), ([],)),
    "list_holds": (lambda sessions: sessions.standing_holds(), ([], [])),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_whose_cursor_stays_is_an_error(
    sessions: SessionStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    walk, nothing = WALKS[name]
    replying(monkeypatch, name, lambda *_, **__: (b"7", *nothing))
    with pytest.raises(RedisRefused, match="the cursor 7 again"):
        list(walk(sessions))


def test_an_adoption_that_gets_no_message_is_an_error(sessions: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    replying(monkeypatch, "peek_list", lambda *_, **__: Look(None, 5, None, 0, []))
    with pytest.raises(RedisRefused, match="session 's' can't be adopted"):
        sessions.adopt("s", FORMATS["memorystore"])


@pytest.mark.single_node(reason="a Cluster has the documents of a session on several nodes")
def test_documents_whose_walk_stays_at_its_cursor_are_an_error(
    sessions: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    replying(monkeypatch, "find_documents", lambda *_: (b"7", {}))
    with pytest.raises(RedisRefused, match="the cursor 7 again"):
        sessions.adopt("s", FORMATS["langchain-redis"])


def test_samples_that_come_again_are_an_error(sessions: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    replying(monkeypatch, "samples", lambda *_: [Sample(sessions.now(), {}, "7-0")] * _SAMPLES)
    with pytest.raises(RedisRefused, match="7-0 again"):
        list(sessions.samples(timedelta(days=1)))
