"""The pictures of docs/console.md, written by `make pages SCREENSHOTS=docs/images`."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from support.browsing import DESKTOP, PHONE, Console, tab
from support.paths import ROOT
from support.shown import Shown

PICTURES = {"overview": "overview", "sessions": "sessions of an owner", "transcript": "transcript", "erase": "erase"}
SCREENS = {"1280": DESKTOP, "390": PHONE}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    wanted: Path = request.config.getoption("--screenshots") or tmp_path
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


@pytest.mark.parametrize("picture", PICTURES)
def test_the_main_pages_have_pictures(
    chromium: Browser, console: Console, shown: Shown, folder: Path, picture: str
) -> None:
    for width, screen in SCREENS.items():
        name = f"console-{picture}-{width}.png"
        with tab(chromium, console, viewport=screen) as opened:
            page = opened.open(console.url + shown.path(PICTURES[picture]))
            page.wait_for_load_state("networkidle")
            page.screenshot(path=folder / name, full_page=True)
        assert (folder / name).stat().st_size > 5_000
        assert f"images/{name}" in (ROOT / "docs" / "console.md").read_text()
