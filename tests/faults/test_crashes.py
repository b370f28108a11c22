"""A real Celery worker is killed -9 at each failpoint; another goes on, and everything is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
import requests
from celery import Celery
from langchain_core.messages import HumanMessage

from support.foreign import LAYOUTS, Foreign
from support.identity import bind
from support.keyspace import raw
from support.paths import ROOT, TESTS
from support.servers import RedisServer, start_redis
from support.waiting import scaled, wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import Status
from torpor.worker.archive import contents, names
from torpor.worker.archive.names import FloorName
from torpor.worker.bulk.adopting import Arguments
from torpor.worker.bulk.works import WORKS
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import environment, load_settings
from torpor.worker.erasure import orders, receipts
from torpor.worker.erasure.receipt import PurgeState
from torpor.worker.failpoints import Failpoint
from torpor.worker.jobs import look
from torpor.worker.jobs.job import Job, JobState
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session


@dataclass
class Crew:
    """An armed worker with beat, on a broker of its own. It dies at the failpoint of its order."""

    services: Services
    app: Celery
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    _environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._environment = environment(self.services.settings) | {
            "LEDGER_KILL_ORDER": str(self.folder / "order"),
            "LEDGER_KILL_LOG": str(self.folder / "deaths"),
            "PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}",
        }

    def start(self) -> None:
        """Start a worker, unless the last one is still running."""
        if self.process and self.process.poll() is None:
            return
        schedule = self.folder / "schedule"
        command = (
            f"-m celery -A support.armed_worker worker -c 2 -B -s {schedule} --without-gossip --without-mingle".split()
        )
        with (self.folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env=self._environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        if self.process:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def order(self, failpoint: Failpoint, whom: str) -> None:
        """Let the next process that reaches the failpoint die there."""
        order = self.folder / "order.new"
        order.write_text(f"{failpoint} {TIMES.get(failpoint, 1)} {whom}")
        order.replace(self.folder / "order")

    def await_death(self, failpoint: Failpoint, whom: str) -> None:
        deaths = self.folder / "deaths"
        wait_until(lambda: not (self.folder / "order").exists(), what=f"{failpoint} is reached")
        wait_until(lambda: deaths.exists() and deaths.read_text().endswith("\n"), what="the death is noted")
        pid, name, of_whom = deaths.read_text().split()
        deaths.unlink()
        assert (name, of_whom) == (failpoint, whom)
        wait_until(lambda: not running(int(pid)), what="the process is dead")
        if whom == "group":
            assert self.process
            assert self.process.wait(scaled(20)) == -signal.SIGKILL
            self.start()

    def send(self, task: str, session_id: str) -> None:
        self.app.send_task(task, [session_id])


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


# If a failpoint is reached several times, the second time shows more than the first.
TIMES = {Failpoint.ERASE_DELETED: 2, Failpoint.RESTORE_STAGED: 2}


@pytest.fixture(scope="module")
def crew_on_folder(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    folder = tmp_path_factory.mktemp("crew")
    with working(redis_server, folder, (folder / "archive").as_uri()) as crew:
        yield crew


@pytest.fixture(scope="module")
def crew_on_gcs(redis_server: RedisServer, emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    requests.post(f"{emulator}/storage/v1/b", json={"name": "crashes"}, timeout=5).raise_for_status()
    with working(redis_server, tmp_path_factory.mktemp("crew"), "gs://crashes/chats") as crew:
        yield crew


@contextmanager
def working(redis_server: RedisServer, folder: Path, archive_url: str) -> Iterator[Crew]:
    broker = start_redis(folder)  # the sessions' server is emptied for each test
    settings = load_settings(
        {
            **redis_server.settings,
            "broker_url": broker.url,
            "archive_url": archive_url,
            "namespace": archive_url.partition(":")[0],  # the crews share a Redis
            "lease_seconds": 0.6,
            "sweep_interval_seconds": 0.2,
            "retry_delay_seconds": 0.25,
        }
    )
    crew = Crew(connect(settings), make_app(lambda: settings), folder)
    crew.start()
    try:
        yield crew
    finally:
        crew.stop()
        crew.app.close()
        broker.stop()


class Chat:
    """A session and what was acknowledged of it."""

    def __init__(self, client: redis.Redis, crew: Crew, session_id: str) -> None:
        self.session_id = session_id
        self.expected: list[str] = []
        namespace = crew.services.settings.namespace
        self.history = MemorystoreChatMessageHistory(client, session_id, 3600, owner="owner", namespace=namespace)
        self._crew = crew

    def say(self, count: int) -> None:
        texts = [f"message {len(self.expected) + number}" for number in range(count)]
        self.history.add_messages([HumanMessage(text) for text in texts])
        self.expected += texts

    def clear(self) -> None:
        self.history.clear()
        self.expected.clear()

    def sleep(self) -> None:
        """Have it archived by a process that nobody kills."""
        assert archive_session(self._crew.services, self.session_id).outcome is Outcome.ARCHIVED

    def await_sleep(self) -> None:
        self.history.close()
        wait_until(lambda: self.history.info() is None, what="the session is asleep")

    def assert_whole(self) -> None:
        """After waking up, each acknowledged message is there once, in order."""
        restore_session(self._crew.services, self.session_id)
        assert [message.content for message in self.history.messages] == self.expected


# Begins a task and waits for the death of the process that works on it.
Kill = Callable[[Callable[[], object]], None]


def killed_in_drain(crew: Crew, chat: Chat, kill: Kill) -> None:
    chat.say(3)
    kill(chat.history.close)
    wait_until(lambda: chat.history.info() is None, what="the worker goes on when the lease ends")
    chat.assert_whole()


def killed_in_archive_task(crew: Crew, chat: Chat, kill: Kill) -> None:
    chat.say(3)
    kill(lambda: crew.send("torpor.archive_session", chat.session_id))
    chat.say(1)
    chat.await_sleep()
    chat.assert_whole()


def killed_after_clear(crew: Crew, chat: Chat, kill: Kill) -> None:
    slept_twice(chat, 3)
    kill(chat.clear)
    chat.say(2)
    wait_until(lambda: (info := chat.history.info()) and info.floor is None, what="the archive is erased")
    chat.await_sleep()
    chat.assert_whole()


def killed_in_restore_and_restored_at_once(
    crew: Crew, chat: Chat, kill: Callable[[Callable[[], object]], None]
) -> None:
    slept_twice(chat, 600)
    kill(lambda: crew.send("torpor.restore_session", chat.session_id))
    chat.say(1)
    crew.send("torpor.restore_session", chat.session_id)
    wait_until(lambda: (info := chat.history.info()) and info.complete, what="the session is restored")
    assert [message.content for message in chat.history.messages] == chat.expected
    chat.await_sleep()
    chat.assert_whole()


def killed_in_restore_and_asleep_again(crew: Crew, chat: Chat, kill: Kill) -> None:
    slept_twice(chat, 600)
    kill(lambda: crew.send("torpor.restore_session", chat.session_id))
    info = chat.history.info()
    assert info
    if info.complete:
        chat.history.close()
    wait_until(lambda: chat.history.info() is None, what="the worker archives it when the lease ends")
    chat.assert_whole()


def killed_in_purge(crew: Crew, chat: Chat, kill: Kill) -> None:
    slept_twice(chat, 3)
    kill(lambda: crew.send("torpor.purge_session", chat.session_id))
    [purge] = orders.open_orders(crew.services)
    wait_until(
        lambda: receipts.standing(crew.services, purge).state is PurgeState.COMPLETE,
        what="the worker goes on with the purge",
    )
    info = chat.history.info()
    assert info
    assert (info.status, info.message_count) == (Status.PURGED, 0)
    left = list(crew.services.archive.list(names.session_prefix(chat.session_id)))
    assert [type(names.parse(chat.session_id, stored.name)) for stored in left] == [FloorName]
    assert not list(crew.services.archive.list(names.owner_markers("owner", chat.session_id)))


def killed_in_live_purge(crew: Crew, chat: Chat, kill: Kill) -> None:
    slept_twice(chat, 3)
    chat.say(1)
    kill(lambda: crew.app.send_task("torpor.purge_session", [chat.session_id], {"scope": "live"}))
    [purge] = orders.open_orders(crew.services)
    wait_until(
        lambda: receipts.standing(crew.services, purge).state is PurgeState.COMPLETE,
        what="the worker goes on with the purge",
    )
    assert chat.history.info() is None
    # Its lease ended with it, and so another worker may have archived the session before the purge came back.
    restore_session(crew.services, chat.session_id)
    assert [message.content for message in chat.history.messages] in (chat.expected[:-1], chat.expected)


def killed_in_hold(crew: Crew, chat: Chat, kill: Kill) -> None:
    slept_twice(chat, 3)
    kill(lambda: chat.history.hold("case 12"))
    wait_until(lambda: chat.history.info() is None, what="the worker goes on with the hold")
    segments = contents.look(crew.services.archive, chat.session_id).segments
    assert [segment.stored.held for segment in segments] == [True, True]
    chat.assert_whole()
    chat.history.release_hold()
    wait_until(
        lambda: (
            not any(segment.stored.held for segment in contents.look(crew.services.archive, chat.session_id).segments)
        ),
        what="the worker sees to the release",
    )


def slept_twice(chat: Chat, messages: int) -> None:
    """Two segments, of two epochs."""
    chat.say(messages)
    chat.sleep()
    chat.assert_whole()
    chat.say(2)
    chat.sleep()


def killed_in_job(crew: Crew, chat: Chat, kill: Kill) -> None:
    layout = LAYOUTS["community"]
    others = [Foreign(crew.services.sessions.client, layout, f"{chat.session_id}-{number}") for number in range(3)]
    for other in others:
        other.add("what is up?", "the sky")
    deployment = crew.services.sessions.identity().deployment
    assert deployment
    job = Job.of("adopt", Arguments(format="community", match=f"{chat.session_id}*"), deployment=deployment)
    kill(lambda: look.place(crew.services, job))
    wait_until(lambda: not list(look.open_jobs(crew.services)), what="the worker goes on with the job")
    assert look.standing(crew.services, WORKS, job.id).state is JobState.COMPLETE
    for other in others:
        assert len(crew.services.sessions.messages(other.session_id, touch=False)) == 2


Scenario = Callable[[Crew, Chat, Kill], None]

SCENARIOS: dict[str, list[Scenario]] = {
    "archive": [killed_in_drain, killed_in_archive_task],
    "erase": [killed_after_clear],
    "restore": [killed_in_restore_and_restored_at_once, killed_in_restore_and_asleep_again],
    "purge": [killed_in_purge],
    "hold": [killed_in_hold],
    "job": [killed_in_job],
}

OF_ITS_OWN: dict[Failpoint, list[Scenario]] = {Failpoint.PURGE_TRIMMED: [killed_in_live_purge]}

# One failpoint of each path at which the worker dies with its pool, and one with a bucket as the archive.
ONE_OF_EACH = {
    Failpoint.ARCHIVE_SENT,
    Failpoint.ERASE_DELETED,
    Failpoint.RESTORE_STAGED,
    Failpoint.PURGE_LISTED,
    Failpoint.JOB_WORKED,
}

# Seen in the other scenario of the same path.
ENOUGH: set[tuple[str, str, Scenario]] = {
    ("folder", "group", killed_in_archive_task),
    ("folder", "group", killed_in_restore_and_restored_at_once),
    ("gcs", "process", killed_in_archive_task),
}

CASES = [
    pytest.param(store, failpoint, scenario, whom, id=f"{store}-{failpoint}-{scenario.__name__}-{whom}")
    for store in ("folder", "gcs")
    for failpoint in Failpoint
    if failpoint.partition(".")[0] in SCENARIOS  # the others are reached by commands: docs/reliability.md
    for scenario in OF_ITS_OWN.get(failpoint, SCENARIOS[failpoint.partition(".")[0]])
    for whom in ("process", "group")
    if failpoint in ONE_OF_EACH or (store, whom) == ("folder", "process")
    if (store, whom) != ("gcs", "group") and (store, whom, scenario) not in ENOUGH
]


@pytest.mark.parametrize(("store", "failpoint", "scenario", "whom"), CASES)
def test_a_worker_killed_at_any_failpoint_loses_and_doubles_nothing(
    client: redis.Redis,
    request: pytest.FixtureRequest,
    *,
    store: str,
    failpoint: Failpoint,
    scenario: Scenario,
    whom: str,
) -> None:
    crew: Crew = request.getfixturevalue(f"crew_on_{store}")
    bind(crew.services)
    crew.start()

    def kill(begin: Callable[[], object]) -> None:
        crew.order(failpoint, whom)
        begin()
        crew.await_death(failpoint, whom)

    chat = Chat(client, crew, f"{failpoint}-{scenario.__name__}-{whom}")
    scenario(crew, chat, kill)
    assert not list(crew.services.sessions.sessions(quarantined=True))
    wait_until(lambda: not raw(client, "KEYS", "*:r:*"), what="what the dead had staged has expired")
    assert crew.process
    assert crew.process.poll() is None
    assert contents.look(crew.services.archive, chat.session_id).erasable == []
