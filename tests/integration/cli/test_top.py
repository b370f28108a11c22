"""`torpor top`: frames on a real terminal, one frame elsewhere, and the samples for programs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from support.archiving import due_chats
from support.command import Torpor
from support.compose import deployment_of, image
from support.keyspace import raw
from support.ports import free_port
from support.servers import RedisServer, start_redis
from support.waiting import scaled, wait_until
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import environment
from torpor.worker.monitoring import samples
from torpor.worker.ops.status import overview

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)

KEY = "{torpor:events}:samples"
# What a terminal does not show: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A process on a terminal, and all that it has printed there."""

    def __init__(self, arguments: list[str], services: Services, rows: int = 50, columns: int = 120) -> None:
        self._terminal, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        given = {**environment(services.settings), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "torpor", *arguments],
            env={name: value for name, value in given.items() if name not in ("COLUMNS", "LINES")},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self._printed = b""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        """Read all the time: a process whose terminal is full stands still."""
        with suppress(OSError):  # the process has ended
            while read := os.read(self._terminal, 65_536):
                self._printed += read

    def text(self) -> str:
        """Everything up to now, without control sequences."""
        return CONTROL.sub("", self._printed.decode(errors="replace"))

    def leaves(self) -> bool:
        """True if it has shown the cursor again, and left the screen of its own."""
        return self._printed.endswith(b"\x1b[?25h\x1b[?1049l")

    def shows(self, text: str, after: int = 0) -> None:
        """Wait until it prints a text, after so many characters."""
        wait_until(lambda: text in self.text()[after:], 60, text)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()
        os.close(self._terminal)


@contextmanager
def screen(arguments: list[str], services: Services, *size: int) -> Iterator[Screen]:
    shown = Screen(arguments, services, *size)
    try:
        yield shown
    finally:
        shown.close()


def sampled(services: Services, minutes: int) -> None:
    """One sample for each of the last minutes, with ever more live sessions."""
    seconds, _ = raw(services.sessions.client, "TIME")
    for ago in range(minutes, 0, -1):
        ms = 1000 * (int(seconds) - 60 * ago + 30)
        figures = ("live", minutes - ago, "archived", 10 * (minutes - ago))
        raw(services.sessions.client, "XADD", KEY, f"{ms}-0", *figures)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the frames are the same")
def test_top_shows_what_happens_until_ctrl_c(services: Services, redis_server: RedisServer, tmp_path: Path) -> None:
    deployment = deployment_of(redis_server, services.archive.url)
    sampled(deployment, 60)
    with screen(["top", "--interval", "0.5"], deployment) as top:
        top.shows("warning: nobody works: no worker was seen in the last day")
        top.shows("last 1h")
        assert re.search(r"live in Redis +0 +▁+[▁▂▃▄▅▆▇]+█", top.text())
        with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
            wait_until(lambda: overview(deployment).workers, 60, "a worker was seen")
            name = overview(deployment).workers[0].name
            top.shows(name)
            due_chats(deployment, 3)
            before = len(top.text())
            wait_until(lambda: re.search(r"archived since start +3 ", top.text()[before:]), 60, "they sleep")
            assert "warning:" not in top.text()[before:].split("archived since start")[-1]
        top.process.send_signal(signal.SIGINT)
        assert top.process.wait(scaled(30)) == 130
        top.shows("torpor: interrupted\r\n")
        assert "Traceback" not in top.text()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_outage_of_redis_is_one_line_and_top_goes_on(services: Services, tmp_path: Path) -> None:
    port = free_port()
    server = start_redis(tmp_path, port=port)
    deployment = deployment_of(server, services.archive.url)
    try:
        with screen(["top", "--interval", "0.5"], deployment) as top:
            top.shows("live in Redis")
            server.stop()
            top.shows("no figures at ")
            assert "live in Redis" in top.text().split("no figures at ")[-1], "the last figures stay"
            server = start_redis(tmp_path, port=port)
            deployment_of(server, services.archive.url)
            seen = len(top.text())

            def goes_on() -> bool:
                frames = top.text()[seen:].split("by Redis's clock")
                return len(frames) > 3 and "no figures at" not in frames[-2]

            wait_until(goes_on, 60, "new figures")
            assert top.process.poll() is None
            assert "Traceback" not in top.text()
    finally:
        server.stop()


@pytest.mark.slow
def test_on_a_tiny_terminal_a_line_is_one_row_and_sigterm_leaves_the_terminal_as_it_was(services: Services) -> None:
    sampled(services, 60)
    with screen(["top", "--interval", "0.5"], services, 20, 40) as top:
        top.shows("quarantin")
        assert re.search(r"live in +0 +[▁-█]{10} ", top.text())
        top.process.terminate()
        assert top.process.wait(scaled(30)) == 143
        wait_until(top.leaves, 30, "the terminal is as it was")


def test_where_the_output_is_no_terminal_one_frame_is_printed(services: Services, torpor: Torpor) -> None:
    sampled(services, 30)
    for arguments in ([], ["--once"], ["--last", "7d"]):
        shown = torpor("top", *arguments)
        assert (shown.code, shown.err) == (0, "")
        assert shown.out.count("live in Redis") == 1
        assert "\x1b" not in shown.out
    assert "last 7d" in shown.out
    assert re.search(r"archived since start +0 .+ 10/min", shown.out)


def test_with_json_the_samples_are_there(services: Services, torpor: Torpor) -> None:
    sampled(services, 90)
    assert samples.take(services) is False  # the last minute has one
    told = torpor("top", "--json").json
    assert set(told) == {
        "now", "warnings", "figures", "states", "kinds", "freed_bytes", "holds", "purges_open", "archive_health",
        "asleep", "nodes", "workers", "beat", "sweep", "jobs", "oldest_job_seconds", "samples",
    }  # fmt: skip
    assert [each["figures"]["live"] for each in told["samples"]] == list(range(30, 90))
    assert told["samples"][0].keys() == {"at", "figures", "id"}
    assert told["warnings"] == [{"code": "no_worker", "text": "nobody works: no worker was seen in the last day"}]
    assert told["nodes"][0].keys() == {"name", "used_bytes", "limit_bytes", "policy"}
    assert len(torpor("top", "--json", "--last", "2h").json["samples"]) == 90


@pytest.mark.parametrize("span", ["8d", "0s", "soon"])
def test_a_span_without_samples_is_refused(services: Services, torpor: Torpor, span: str) -> None:
    assert torpor("top", "--last", span).code == 2


@pytest.mark.parametrize("interval", ["0", "inf", "nan", "1e300", "soon"])
def test_an_interval_that_is_none_is_refused(services: Services, torpor: Torpor, interval: str) -> None:
    assert torpor("top", "--interval", interval).code == 2


def test_a_figure_of_another_version_is_left_out(services: Services, torpor: Torpor) -> None:
    """Workers of two versions may sample in turn."""
    raw(services.sessions.client, "XADD", KEY, "*", "another", 1)
    assert torpor("top", "--once").code == 0
    assert next(services.sessions.samples(timedelta(hours=1))).figures == {"another": 1}
