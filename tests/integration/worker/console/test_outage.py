"""What the console shows while the archive or Redis does not answer."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import requests

from support.consoles import Visitor, started
from support.ports import free_port
from support.purging import say
from support.servers import start_redis
from support.waiting import scaled
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow

PAGES = {
    "/": (200, "Overview"),
    "/sessions?id=s": (200, "ann"),
    "/sessions?id=none": (503, "can&#39;t be reached"),
    "/sessions?owner=ann": (200, "the search ended early"),
    "/session?id=s": (200, "The archive does not answer"),
    "/person?owner=ann": (503, "can&#39;t be reached"),
    "/erase?owner=ann": (503, "can&#39;t be reached"),
    "/holds": (200, "No legal hold"),
    "/purges": (503, "can&#39;t be reached"),
    "/quarantine": (200, "No session is in quarantine"),
}


def test_no_page_waits_long_for_a_bucket_that_is_down(services: Services, scratch: Path) -> None:
    say(services, "s")
    down = {"TORPOR_ARCHIVE_URL": "gs://down", "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{free_port()}"}
    with started(services, scratch, **down) as running:
        person = running.visitor()
        for path, (status, text) in PAGES.items():
            begun = time.monotonic()
            page = person.http.get(person.url + path, timeout=scaled(60))
            assert (page.status_code, text in page.text) == (status, True), (path, page.text)
            assert time.monotonic() - begun < scaled(20), path


def test_the_overview_does_not_wait_for_minutes_for_a_redis_that_hangs(services: Services, scratch: Path) -> None:
    server, folder = start_redis(scratch), scratch / "own"
    folder.mkdir()
    try:
        with started(services, scratch, TORPOR_REDIS_URL=server.url, TORPOR_ARCHIVE_URL=folder.as_uri()) as running:
            person = running.visitor()
            server.process.send_signal(signal.SIGSTOP)
            page = person.http.get(person.url, timeout=scaled(60))  # a worker would wait for three minutes
            assert (page.status_code, "Redis can&#39;t be reached" in page.text) == (503, True), page.text
            server.process.send_signal(signal.SIGCONT)
            person.get("/")
    finally:
        server.stop()


def test_the_console_starts_while_redis_is_down_and_each_page_says_so(services: Services, scratch: Path) -> None:
    down = {"TORPOR_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with started(services, scratch, **down) as running:
        person = Visitor(running.sign_in.partition("/sign-in")[0], requests.Session())
        assert person.http.get(running.sign_in, timeout=scaled(60)).status_code == 503  # signed in, at the overview
        for path in ("/", "/session?id=s", "/person?owner=ann", "/holds", "/quarantine", "/session/transcript?id=s"):
            page = person.http.get(person.url + path, timeout=scaled(60))
            assert (page.status_code, "Redis can&#39;t be reached" in page.text) == (503, True), (path, page.text)
