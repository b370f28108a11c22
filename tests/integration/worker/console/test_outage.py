"""What the console shows while the archive or Redis does not answer."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from support.clusters import ClusterServer, start_cluster
from support.consoles import OFFICER, Visitor, served, started
from support.ports import free_port
from support.purging import say
from support.redis_proxy import Fault, Proxy, nth
from support.servers import RedisServer, start_redis
from support.waiting import scaled
from torpor.history.protocol import RedisUnavailable
from torpor.worker.console.roles import Role
from torpor.worker.console.serving.page_table import PAGES as TABLE
from torpor.worker.deployment.services import Services, connect

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
REPLY_SECONDS = 0.3
QUERY = "?id=s&owner=ann"
# Of the pages that refuse these fields together.
QUERIES = {"/sessions": "?id=s", "/holds": ""}
# These read the archive alone, or what the console's process has itself.
WITHOUT_REDIS = {
    *("/purges", "/purge", "/purge/receipt", "/purge/inventory", "/jobs", "/job", "/bucket", "/doctor"),
    *("/copy", "/copy/file"),
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


@pytest.mark.parametrize("cluster", [False, True], ids=["single node", "cluster"])
def test_each_page_gives_up_a_redis_that_hangs_after_a_reply_of_each_node(
    services: Services, scratch: Path, *, cluster: bool
) -> None:
    with hanging(services, scratch, cluster=cluster) as (looking, most_seconds, hang):
        with served(looking, {OFFICER: set(Role)}) as console:
            person = console.visitor(OFFICER)
            person.get("/figures")  # the first page below has this one's connection, the others open theirs
            hang()
            pages = [page.path + QUERIES.get(page.path, QUERY) for page in TABLE if not page.acts]
            for path in ("/sessions", *pages):
                begun = time.monotonic()
                page = person.http.get(person.url + path, timeout=scaled(60))
                assert time.monotonic() - begun < most_seconds, path
                if path.partition("?")[0] not in WITHOUT_REDIS:
                    status = 200 if path == "/sessions" else 503  # a list is sent while it is read
                    says = (page.status_code, "Redis can&#39;t be reached" in page.text)
                    assert says == (status, True), (path, page.text)
        begun = time.monotonic()
        with pytest.raises(RedisUnavailable):  # so is somebody told who has signed in by OpenID Connect
            looking.sessions.has_ended("a browser's session")
        assert time.monotonic() - begun < most_seconds


@contextmanager
def hanging(services: Services, folder: Path, *, cluster: bool) -> Iterator[tuple[Services, float, Callable[[], None]]]:
    """Services that look at a Redis of their own, the most seconds that they wait for it, and what makes it hang."""
    server = start_cluster(folder) if cluster else start_redis(folder)
    nodes = server.nodes if isinstance(server, ClusterServer) else [server]
    changed = {"redis_url": SecretStr(server.url), "redis_cluster": cluster}

    def all_get(number: signal.Signals) -> None:
        for node in nodes:
            node.process.send_signal(number)

    try:
        looking = connect(services.settings.model_copy(update=changed), reply_seconds=REPLY_SECONDS)
        replies = 1 + len(nodes) if cluster else 1  # the client asks the nodes who has the slots by now
        yield looking, replies * REPLY_SECONDS + scaled(1), lambda: all_get(signal.SIGSTOP)
    finally:
        all_get(signal.SIGCONT)
        server.stop()


def test_the_console_starts_while_redis_is_down_and_each_page_says_so(services: Services, scratch: Path) -> None:
    down = {"TORPOR_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with started(services, scratch, **down) as running:
        person = Visitor(running.sign_in.partition("/sign-in")[0], requests.Session())
        assert person.http.get(running.sign_in, timeout=scaled(60)).status_code == 503  # signed in, at the overview
        for path in ("/", "/session?id=s", "/person?owner=ann", "/holds", "/quarantine", "/session/transcript?id=s"):
            page = person.http.get(person.url + path, timeout=scaled(60))
            assert (page.status_code, "Redis can&#39;t be reached" in page.text) == (503, True), (path, page.text)


@pytest.mark.single_node(reason="a Cluster's client takes only the count of its tries")
@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.LOSE_REPLY, Fault.HALF_REPLY])
def test_a_page_is_shown_though_redis_closes_the_connection_that_it_asks_on(
    services: Services, redis_server: RedisServer, fault: Fault
) -> None:
    say(services, "s")
    with Proxy(redis_server.port) as address:
        changed = {"redis_url": SecretStr(address.url)}
        looking = connect(services.settings.model_copy(update=changed), reply_seconds=REPLY_SECONDS)
        with served(looking, {OFFICER: set(Role)}) as console:
            person = console.visitor(OFFICER)
            address.plan = nth(1, fault)
            assert "ann" in person.get("/session?id=s").text
