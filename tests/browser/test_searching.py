"""A search in a real browser: its rows come while it goes on, and it can be stopped, with and without JavaScript."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from support.consoles import started
from support.waiting import wait_until
from torpor.worker.deployment.services import Services

NAMES = {f"walk-{number:02}" for number in range(60)}
ROWS = "tbody:not(.progress) th"


@pytest.mark.parametrize("with_javascript", [True, False], ids=["with JavaScript", "without"])
def test_a_search_shows_its_rows_while_it_goes_on_and_keeps_them_when_it_is_stopped(
    chromium: Browser, deployment: Services, tmp_path: Path, *, with_javascript: bool
) -> None:
    for name in NAMES:
        deployment.sessions.append(name, [b'{"type":"human","data":{"content":"hello"}}'], owner="walker")
    # So slow that it is far from its end when it is stopped, on a busy machine too.
    with started(deployment, tmp_path, TORPOR_CONSOLE_SEARCH_RATE="1") as console:
        context = chromium.new_context(java_script_enabled=with_javascript)
        page = context.new_page()
        page.goto(console.sign_in)
        page.goto(console.sign_in.partition("/sign-in")[0] + "/sessions?prefix=walk-", wait_until="commit")
        page.locator(ROWS).nth(4).wait_for()
        assert page.locator(".ended").count() == 0
        assert page.locator("tbody.progress:visible").count() <= 1
        page.get_by_role("button", name="Stop the search").click(no_wait_after=True)
        wait_until(lambda: page.evaluate("document.readyState") == "complete")
        found = set(page.evaluate(f"[...document.querySelectorAll('{ROWS}')].map(each => each.innerText)"))
        assert 5 <= len(found) < len(NAMES)
        # The button was a navigation that led nowhere: the browser has stopped, and the rows stay, with the way on.
        here = page.evaluate("[...document.querySelectorAll('tbody.progress a')].at(-1).href")
    with started(deployment, tmp_path) as console:
        page.goto(console.sign_in)
        page.goto(console.sign_in.partition("/sign-in")[0] + "/sessions" + here.partition("/sessions")[2])
        assert set(page.locator(ROWS).all_inner_texts()) == NAMES - found
        assert page.get_by_text("nothing is left to look at").is_visible()
        context.close()
