"""A redirect leads to a page of the console, and its header has one line."""

from __future__ import annotations

import pytest

from torpor.history.protocol import InvalidArgument
from torpor.worker.console import redirects


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/", "/"),
        ("/session?id=a%2Fb&x=1", "/session?id=a%2Fb&x=1"),
        ("/session?id=ä ", "/session?id=%C3%A4%20"),
        ("/a//b", "/a//b"),
    ],
)
def test_a_page_is_led_to(path: str, location: str) -> None:
    assert redirects.to(path).headers["location"] == location


@pytest.mark.parametrize(
    "path",
    [
        *("", "x", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example"),
        *("javascript:evil()", " /", "/\t/evil.example", "/\r\nSet-Cookie: a=b", "/\n", "/\x00", "/\x7f", "/\ud800"),
    ],
)
def test_nothing_else_is(path: str) -> None:
    with pytest.raises(InvalidArgument):
        redirects.to(path)
