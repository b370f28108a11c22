"""An officer erases a person's sessions in the browser, first blocked by a legal hold, and checks the proof."""

from __future__ import annotations

import subprocess
from pathlib import Path

from playwright.sync_api import Page, expect

from support.browsing import Console, Tab
from support.cli_sessions import say, sleep
from support.waiting import scaled

PATIENCE_MS = 1_000 * scaled(60)


def erase(page: Page, owner_or_session: str) -> None:
    page.get_by_label("Why, such as").fill("request 17")
    page.get_by_label("exactly:").fill(owner_or_session)
    page.get_by_role("button", name="Erase for good").click()


def checked_files(page: Page, folder: Path) -> str:
    """Download the files of proof, and run the command that the page gives."""
    folder.mkdir()
    links = page.locator("section[aria-labelledby=files] a[download]")
    assert links.count() >= 2
    for number in range(links.count()):
        with page.expect_download() as started:
            links.nth(number).click()
        started.value.save_as(folder / started.value.suggested_filename)
    command = page.locator("section[aria-labelledby=files] pre").inner_text()
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_blocked_and_a_complete_erasure_with_files_whose_digests_are_right(
    opened: Tab, console: Console, tmp_path: Path
) -> None:
    client = console.services.sessions.client
    sleep(client, console.services, "eve-asleep", "one", "two", owner="eve")
    say(client, "eve-awake", "three", owner="eve")
    sleep(client, console.services, "eve-held", "four", owner="eve")

    page = opened.open(f"{console.url}/hold?session=eve-held")
    page.get_by_label("Why the messages must be kept").fill("case 12")
    page.get_by_role("button", name="Hold this session").click()
    expect(page.get_by_text("Held since")).to_be_visible()

    page.goto(f"{console.url}/sessions")
    page.get_by_label("Owner").fill("eve")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("link", name="eve-", exact=False)).to_have_count(3)
    page.get_by_role("link", name="eve", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("eve")

    page.get_by_role("link", name="Erase all sessions").click()
    expect(page.get_by_text("legal hold").first).to_be_visible()
    erase(page, "eve ")
    expect(page.get_by_role("alert")).to_be_visible()
    assert "400" in opened.complaints.pop()
    assert console.services.sessions.info("eve-awake", owner="eve")

    page.goto(f"{console.url}/erase?owner=eve")
    erase(page, "eve")
    expect(page.get_by_role("heading", name="What was kept, and why")).to_be_visible(timeout=PATIENCE_MS)
    assert "OK" in checked_files(page, tmp_path / "blocked")

    page.goto(f"{console.url}/hold?session=eve-held")
    page.get_by_label("Why the hold is released").fill("the case is closed")
    page.get_by_role("button", name="Release the hold").click()
    expect(page.get_by_text("There is no legal hold of this session")).to_be_visible()
    page.goto(f"{console.url}/erase?session=eve-held")
    erase(page, "eve-held")
    expect(page.get_by_text("finished: a second look")).to_be_visible(timeout=PATIENCE_MS)
    assert "OK" in checked_files(page, tmp_path / "complete")
    assert not [each for each in console.services.archive.list("v1/") if "/eve-" in each.name and ".gz" in each.name]
