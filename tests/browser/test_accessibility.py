"""Each page for people who use a keyboard, a screen reader, a phone, a dark screen, or no JavaScript."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from support.browsing import DESKTOP, PHONE, WCAG, Console, Tab, tab

PATHS = [
    "/",
    "/figures?span=day",
    "/holds",
    "/purges",
    "/person",
    "/person?owner=ann",
    "/sessions",
    "/sessions?prefix=axe",
    "/session?id=axe",
    "/session/transcript?id=axe",
    "/session/transcript?id=axe&message=1&form=json",
]


LOOKS = {
    "desktop": {"viewport": DESKTOP, "color_scheme": "light"},
    "desktop-dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light"},
    "phone-dark": {"viewport": PHONE, "color_scheme": "dark"},
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing(chromium: Browser, console: Console, axe: str, path: str, look: str) -> None:
    with tab(chromium, console, **LOOKS[look]) as opened:
        page = opened.open(console.url + path)
        page.evaluate(axe)
        found = page.evaluate("tags => axe.run({ runOnly: tags })", WCAG)
        assert found["passes"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_no_wider_than_a_phone(chromium: Browser, console: Console, path: str) -> None:
    with tab(chromium, console, viewport=PHONE) as opened:
        page = opened.open(console.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("path", PATHS)
def test_a_page_reads_the_same_without_javascript(chromium: Browser, console: Console, path: str) -> None:
    with tab(chromium, console, java_script_enabled=False) as opened:
        page = opened.open(console.url + path)
        assert page.title().endswith("Torpor")
        assert page.get_by_role("heading", level=1).count() == 1
        assert page.get_by_role("main").inner_text().strip()


def test_the_first_key_leads_past_the_navigation(opened: Tab) -> None:
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "content"
