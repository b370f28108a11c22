"""Somebody finds a session in the browser, reads it while it sleeps, wakes it, puts it to sleep, and holds it."""

from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from playwright.sync_api import expect

from support.browsing import Console, Tab
from support.cli_sessions import chat
from support.waiting import scaled
from torpor.history.protocol import ANY_OWNER

PATIENCE_MS = 1_000 * scaled(60)
HOSTILE = "<img src=x onerror=\"document.title='stolen'\"><script>document.title='stolen'</script>"


def test_search_read_sleep_wake_and_hold(opened: Tab, console: Console) -> None:
    client, sessions = console.services.sessions.client, console.services.sessions
    call = {"name": "find_hotels", "args": {"city": "Turin"}, "id": "call-1"}
    chat(client, "flow/hotels", owner="fay").add_messages(
        [
            HumanMessage(HOSTILE),
            AIMessage("", tool_calls=[call]),
            ToolMessage("three hotels", tool_call_id="call-1", name="find_hotels"),
        ]
    )
    page = opened.page
    page.get_by_role("link", name="Sessions").click()
    page.get_by_label("Id, whole").fill("flow/hotels")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("link", name="flow/hotels").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Session flow/hotels")

    page.get_by_role("button", name="Put to sleep").click()
    expect(page.locator("dl.facts dd").first).to_have_text("asleep", timeout=PATIENCE_MS)
    assert sessions.info("flow/hotels", owner=ANY_OWNER) is None

    page.get_by_role("link", name="Show the transcript").click()
    expect(page.get_by_text("<script>")).to_be_visible()
    page.get_by_text("Calls the tool find_hotels").click()
    expect(page.get_by_text('"Turin"')).to_be_visible()
    assert page.title() == "Transcript of flow/hotels · Torpor"
    assert sessions.info("flow/hotels", owner=ANY_OWNER) is None

    page.go_back()
    page.get_by_role("button", name="Wake").click()
    expect(page.locator("dl.facts dd").first).not_to_have_text("asleep", timeout=PATIENCE_MS)
    woken = sessions.info("flow/hotels", owner=ANY_OWNER)
    assert woken and woken.message_count == 3 and woken.complete

    page.get_by_label("Why the messages must be kept").fill(HOSTILE)
    page.get_by_role("button", name="Hold this session").click()
    expect(page.get_by_text("Held since")).to_be_visible()
    held = sessions.info("flow/hotels", owner=ANY_OWNER)
    assert held and held.hold and held.hold.reason == HOSTILE
    page.goto(f"{console.url}/session?id=flow/hotels")
    expect(page.get_by_text("<script>").first).to_be_visible()
    assert page.title() == "Session flow/hotels · Torpor"
