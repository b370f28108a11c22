"""Each page for people who use a keyboard, a screen reader, a phone, a dark screen, or no JavaScript."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from support.browsing import DESKTOP, PHONE, WCAG, Console, Tab, tab
from support.shown import FILES, PAGES, Shown
from torpor.worker.console.serving import page_table

LOOKS = {
    "desktop": {"viewport": DESKTOP, "color_scheme": "light"},
    "desktop-dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light"},
    "phone-dark": {"viewport": PHONE, "color_scheme": "dark"},
}
each_page = pytest.mark.parametrize("name", PAGES)


def test_each_page_of_the_console_is_here() -> None:
    assert {path.partition("?")[0] for path in PAGES.values()} | FILES == {
        each.path for each in page_table.PAGES if not each.acts
    }


@each_page
def test_axe_finds_nothing(chromium: Browser, console: Console, axe: str, shown: Shown, name: str) -> None:
    found = []
    for look, options in LOOKS.items():
        with tab(chromium, console, **options) as opened:
            page = opened.open(console.url + shown.path(name))
            page.evaluate(axe)
            result = page.evaluate("tags => axe.run({ runOnly: tags })", WCAG)
            assert result["passes"]
            found += [(look, each["id"], each["nodes"][0]["html"]) for each in result["violations"]]
    assert found == []


@each_page
def test_a_page_is_no_wider_than_a_phone(chromium: Browser, console: Console, shown: Shown, name: str) -> None:
    with tab(chromium, console, viewport=PHONE) as opened:
        page = opened.open(console.url + shown.path(name))
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@each_page
def test_a_page_reads_the_same_without_javascript(chromium: Browser, console: Console, shown: Shown, name: str) -> None:
    with tab(chromium, console, java_script_enabled=False) as opened:
        page = opened.open(console.url + shown.path(name))
        heading = page.get_by_role("heading", level=1)
        assert heading.count() == 1
        assert page.title() == f"{heading.inner_text()} · Torpor"
        for text in shown.texts(name):
            assert text in page.get_by_role("main").inner_text()


def test_the_first_key_leads_past_the_navigation(opened: Tab) -> None:
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "content"
