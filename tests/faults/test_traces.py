"""What is printed, logged, sent and stored has no words of a person but those that a table allows, and no control.

Every command and every task is run as a real process with a needle in each field that a person can set: owners,
reasons, requesters, messages, names of tools, session ids, a password and access tokens. A command or a task without a
row fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage

from support.command import names_of_commands
from support.compose import image
from support.foreign import LAYOUTS
from support.identity import bind
from support.keyspace import raw
from support.ports import free_port
from support.servers import start_redis
from support.tls import EncryptedServer, make_authority, start_encrypted
from support.tokens import Tokens, metadata_server
from support.traces import HARM, found, harm, needle, watched_processes
from support.waiting import scaled, wait_until
from torpor import MemorystoreChatMessageHistory, application_default
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import environment, load_settings
from torpor.worker.sleep.attempt import archive_session

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.single_node(reason="the commands and tasks are the same, and Celery has no Cluster as its broker"),
]

PASSWORD = "needle-password"
OWNER, REASON, REQUESTER, NAME = (needle(each) for each in ("owner", "reason", "requester", "name"))
AWAKE, ASLEEP, PURGED, BAD, FOREIGN, HELD, NONE = (
    f"{name}{HARM}" for name in ("awake", "asleep", "purged", "bad", "foreign", "held", "none")
)
TURN = [
    HumanMessage(needle("message"), name=NAME),
    AIMessage("", tool_calls=[{"name": needle("tool"), "args": {"at": needle("arguments")}, "id": "1"}]),
]
SAID = {"message", "tool", "arguments"}
WHO = {"owner", "reason", "requester"}

# Each command: the needles that its output has, in all of these calls together, errors included, and the calls.
# A command may repeat what its user has typed.
COMMANDS: dict[str, tuple[set[str], list[list[str]]]] = {
    "status": (set(), [[], ["--json"]]),
    "top": (set(), [["--once"], ["--json"]]),
    "deployment": (set(), [["--json"], ["recover", "--dry-run"], ["recover", "--give-up", NONE]]),
    "sessions": ({"owner", "reason"}, [[], ["--json"]]),
    "show": (SAID | {"owner", "name"}, [[AWAKE], [AWAKE, "--json"], [NONE]]),
    "archive": (set(), [[AWAKE], [AWAKE, "--json"], [BAD], [NONE]]),
    "sweep": (set(), [["--once"], ["--once", "--json"], ["--dry-run"]]),
    "sql": (set(), [["duckdb"], ["clickhouse"], ["bigquery"]]),
    "restore": (set(), [[ASLEEP], [ASLEEP, "--json"], [NONE]]),
    "separate": (set(), [[ASLEEP], [NONE]]),
    "hold": (
        {"owner"},
        [
            ["--session", HELD, "--reason", REASON],
            ["--owner", needle("owner") + "2", "--reason", REASON, "--json"],
            ["--session", HELD, "--owner", OWNER, "--reason", REASON],
        ],
    ),
    "purge": (
        WHO,
        [
            ["--owner", OWNER, "--dry-run"],
            ["--owner", OWNER, "--dry-run", "--json"],
            ["--session", PURGED, "--by", REQUESTER, "--reason", REASON, "--yes"],
            ["--session", HELD, "--by", REQUESTER, "--reason", REASON, "--yes", "--json"],
            ["--owner", OWNER + "?", "--by", REQUESTER, "--reason", REASON, "--yes"],
            ["--session", NONE, "--by", REQUESTER, "--reason", REASON, "--yes"],
            ["--resume", NONE],
            ["--idle-for", NONE],
        ],
    ),
    "purge-status": (set(), [[], ["--json"], [NONE]]),
    "jobs": (set(), [[], ["--json"], [NONE], ["--cancel", NONE]]),
    "receipts": (WHO, [[], ["--json"], [NONE]]),
    "unhold": ({"owner"}, [["--session", HELD], ["--owner", OWNER], ["--owner", OWNER, "--json"]]),
    "holds": ({"owner", "reason"}, [[], ["--json"]]),
    "audit": (WHO, [[], ["--json"], ["--owner", OWNER]]),
    "bucket": (set(), [[], ["--json"], ["--apply"]]),
    "events": ({"owner"}, [["-n", "1000"], ["-n", "1000", "--json"]]),
    "quarantine": ({"owner"}, [[], ["--json"]]),
    "requeue": (set(), [[BAD], [NONE]]),
    "doctor": (set(), [[], ["--json"], ["--repair"]]),
    "import": ({"owner", "type"}, [["{good}"], ["{good}", "--json"], ["{bad}"], ["{other}"], ["{file}"]]),
    "export": (
        SAID | {"owner", "name"},
        [[AWAKE], ["--all"], [NONE], [AWAKE, "-o", "{folder}"], ["-o", "{out}", AWAKE]],
    ),
    "adopt": (
        {"message", "owner"},
        [
            ["--match", "*", "--format", "community", "--owner", OWNER, "--dry-run"],
            ["--match", "*", "--format", "community", "--owner", OWNER, "--dry-run", "--json"],
            ["--match", "*", "--format", "community", "--owner", OWNER],
            ["--match", "*", "--format", "community", "--owner-pattern", f"({NONE}"],
        ],
    ),
    "compress": (set(), [["--dry-run"], ["--here", "--json"]]),
    "assign-owner": (
        set(),
        [
            ["--match", "*", "--owner", OWNER, "--dry-run"],
            ["--match", "*", "--owner", OWNER + "2", "--yes", "--json"],
            ["{bad}"],
            ["--match", NONE, "--owner", OWNER, "--yes"],
        ],
    ),
}
FILES = {"{good}", "{bad}", "{other}", "{file}", "{folder}", "{out}"}
# These become other processes, which the test starts, or for the console tests/integration/worker/console; the demo has
# a deployment of its own, and scripts none.
APART = {"demo", "worker", "beat", "serve-metrics", "console", "scripts"}

# Tasks whose end Celery does not log, or not if they find nothing to do.
UNLOGGED = {"torpor.sweep", "torpor.drain", "torpor.sweep_purges", "torpor.sweep_jobs", "torpor.expire"}
# Each task: the arguments of its calls, which all have needles where a person has a say.
TASKS: dict[str, list[tuple[list[Any], dict[str, Any]]]] = {
    "torpor.sweep": [([], {}), ([REASON], {})],
    "torpor.drain": [([[0]], {}), ([REASON], {})],
    "torpor.archive_session": [([ASLEEP], {}), ([BAD], {}), ([[REASON]], {})],
    "torpor.restore_session": [([ASLEEP], {}), ([NONE], {}), ([[REASON]], {})],
    "torpor.expire": [([], {})],
    "torpor.purge_session": [
        ([NONE], {"requested_by": REQUESTER, "reason": REASON}),
        ([NONE], {"requested_by": REQUESTER, "reason": REASON, "scope": REASON}),
        ([NONE], {"needless": REASON}),
    ],
    "torpor.purge_owner": [
        ([OWNER + "?", REQUESTER, REASON], {}),
        ([OWNER + "3", REQUESTER, REASON], {"record_nothing_found": True}),
    ],
    "torpor.purge_idle": [([86_400], {"owner": OWNER, "reason": REASON}), ([REASON], {"owner": OWNER})],
    "torpor.sweep_purges": [([], {})],
    "torpor.purge": [([NONE], {})],
    "torpor.sweep_jobs": [([], {})],
    "torpor.job": [([NONE, 0], {}), ([[REASON], 0], {})],
}

# Each place beside the commands: the needles that it has.
PLACES: dict[str, set[str]] = {
    "the worker's log": set(),
    "beat's log": set(),
    "results": set(),
    "arguments of processes that nobody typed": set(),
    "messages of tasks that were sent": WHO,
    "messages of events": {"owner"},
    "the stream of events": {"owner"},
    "receipts": WHO,
}


@dataclass
class Scene:
    """A deployment by TLS and tokens, with a broker that has a password."""

    services: Services
    server: EncryptedServer
    broker: redis.Redis
    tokens: Tokens
    variables: Mapping[str, str]
    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, command: str, *arguments: str, **variables: str) -> str:
        """All that a command prints."""
        given = [str(self.folder / each[1:-1]) if each in FILES else each for each in arguments]
        done = subprocess.run(
            [sys.executable, "-m", "torpor", command, *given],
            env={**self.variables, **variables},
            capture_output=True,
            check=False,
            timeout=scaled(60),
        )
        printed = done.stdout.decode() + done.stderr.decode()
        assert "Traceback" not in printed, (command, arguments, printed)
        if "--json" in arguments:
            assert all(json.loads(line) for line in done.stdout.decode().splitlines())
        return printed


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        (tmp_path / "redis").mkdir()
        (tmp_path / "broker").mkdir()
        server = start_encrypted(tmp_path / "redis", make_authority(tmp_path / "authority"))
        stack.callback(server.plain.stop)
        broker = start_redis(tmp_path / "broker")
        stack.callback(broker.stop)
        with broker.client() as admin:
            raw(admin, "CONFIG", "SET", "requirepass", PASSWORD)
        tokens = Tokens([server])
        own = stack.enter_context(metadata_server(tokens, tmp_path))
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            "google.auth.compute_engine._metadata._GCE_METADATA_HOST", own["GCE_METADATA_HOST"]
        )
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        for name, value in own.items():
            patch.setenv(name, value)
        application_default.cache_clear()
        stack.callback(application_default.cache_clear)
        settings = {
            "redis_url": server.url(),
            "redis_ca_file": server.authority.file,
            "redis_iam": True,
            "broker_url": f"redis://:{PASSWORD}@127.0.0.1:{broker.port}/0",
            "archive_url": (tmp_path / f"archive {NONE}".replace("\n", " ")).as_uri(),
            "max_attempts": 2,
            "on_event_task": "crm.note",
            "policies": json.dumps([{"owner": OWNER, "session_prefix": AWAKE, "max_age_max_seconds": 86_400}]),
            "shards": 4,
        }
        services = connect(load_settings(settings))
        bind(services)
        stack.callback(services.sessions.client.close)
        connected = stack.enter_context(replace(broker, password=PASSWORD, user="default").client())
        yield Scene(services, server, connected, tokens, environment(services.settings), tmp_path)


def set_up(scene: Scene) -> None:
    """Sessions in every state, and files."""
    services = scene.services
    for session_id in (AWAKE, ASLEEP, PURGED, BAD, HELD):
        chat = MemorystoreChatMessageHistory(services.sessions.client, session_id, 3600, owner=OWNER, shards=4)
        chat.add_messages(TURN)
    archive_session(services, ASLEEP)
    services.sessions.hold(HELD, REASON)
    keys = services.sessions.deployment.keyspace.of(BAD.encode())
    raw(services.sessions.client, "HDEL", keys.metadata(BAD.encode()), "epoch")
    for _ in range(2):
        archive_session(services, BAD)
    foreign = json.dumps({"type": "human", "data": {"content": needle("message")}})
    raw(services.sessions.client, "RPUSH", LAYOUTS["community"].key(FOREIGN), foreign)
    line = {"session_id": f"new{HARM}", "owner": OWNER, "messages": [{"type": "human", "content": needle("message")}]}
    (scene.folder / "good").write_text(json.dumps(line) + "\n")
    (scene.folder / "bad").write_text(needle("message") + "\n")
    (scene.folder / "other").write_text(json.dumps(line | {"session_id": AWAKE, "owner": OWNER + "2"}) + "\n")
    (scene.folder / "file").write_text(
        json.dumps(line | {"messages": [{"type": needle("type"), "content": {"a": 1}}]}) + "\n"
    )
    (scene.folder / "folder").mkdir()


def send_all(scene: Scene) -> None:
    with make_app(lambda: scene.services.settings, set_as_current=False) as app:
        for number, (name, calls) in enumerate(TASKS.items()):
            for call, (arguments, keywords) in enumerate(calls):
                # A purge has the id of its task.
                own = {} if "purge_" in name and call == 0 else {"task_id": f"{number}-{call}{HARM}"}
                app.send_task(name, arguments, keywords, **own)
        app.send_task("torpor.no_such_task", [OWNER], {"reason": REASON})


def text_of(values: Sequence[Any]) -> str:
    return "\n".join(value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values)


def test_no_command_and_no_task_is_forgotten() -> None:
    assert set(COMMANDS) | APART == names_of_commands()
    settings = load_settings({"archive_url": "file:///nowhere"})
    with make_app(lambda: settings, set_as_current=False) as app:
        app.loader.import_default_modules()
        assert set(TASKS) == {name for name in app.tasks if name.startswith("torpor.")}


def test_words_of_people_are_only_where_the_table_allows_them_and_nothing_controls_a_terminal(scene: Scene) -> None:
    set_up(scene)
    places: dict[str, str] = {}
    send_all(scene)
    sent = raw(scene.broker, "LRANGE", "torpor:celery:torpor", 0, -1)
    places["messages of tasks that were sent"] = decoded(sent)
    log, count = scene.folder / "worker.log", sum(len(calls) for name, calls in TASKS.items() if name not in UNLOGGED)
    with (
        watched_processes(os.getpid()) as seen,
        image("worker", scene.services, scene.folder),
        image("beat", scene.services, scene.folder),
    ):
        wait_until(lambda: done_in(log) >= count, 90, "all tasks have ended")
        for command, (_, calls) in COMMANDS.items():
            scene.printed[command] = "\n".join(scene.run(command, *call) for call in calls)
    places["the worker's log"] = log.read_text()
    places["beat's log"] = (scene.folder / "beat.log").read_text()
    results = list(scene.broker.scan_iter("torpor:celery:celery-task-meta-*"))
    assert results
    places["results"] = text_of([scene.broker.get(each) for each in results])
    events = raw(scene.broker, "LRANGE", "torpor:celery:torpor-events", 0, -1)
    places["messages of events"] = decoded(events)
    with scene.server.plain.client() as admin:
        places["the stream of events"] = text_of([raw(admin, "XRANGE", "torpor:events", "-", "+")])
    places["receipts"] = text_of(
        [path.read_bytes() for path in scene.folder.rglob("v1/receipts/**/*") if path.is_file()]
    )
    typed = {text for _, calls in COMMANDS.values() for call in calls for text in call}
    untyped = [[part for part in line.split("\0") if part not in typed] for line in seen]
    places["arguments of processes that nobody typed"] = str(untyped)

    assert {name: found(text) for name, text in places.items()} == PLACES
    assert {name: found(text) for name, text in scene.printed.items()} == {
        name: allowed for name, (allowed, _) in COMMANDS.items()
    }
    everything = "\n".join([*places.values(), *scene.printed.values()])
    assert scene.tokens.issued
    assert not [token for token in scene.tokens.issued if token in everything]
    readable = {**scene.printed, **{name: places[name] for name in ("the worker's log", "beat's log")}}
    del readable["export"]  # a file has the very bytes of messages; on a terminal they are escaped
    assert {name: lines for name, text in readable.items() if (lines := harm(text))} == {}


def decoded(messages: Sequence[bytes]) -> str:
    """Messages of kombu, whose bodies are in base64."""
    import base64

    envelopes = [json.loads(each) for each in messages]
    return text_of([*messages, *(base64.b64decode(each["body"]) for each in envelopes)])


def done_in(log: Path) -> int:
    text = log.read_text()
    # An id has a line break.
    ended = re.findall(
        r"Task (torpor\.\w+)\[(?:(?!Task torpor).)*?\] (?:succeeded in|raised (?:un)?expected:) ", text, re.DOTALL
    )
    return len([name for name in ended if name not in UNLOGGED])


def test_no_command_prints_the_password_of_a_server_that_refuses_it(scene: Scene) -> None:
    wrong = {
        "TORPOR_REDIS_URL": f"rediss://:{PASSWORD}@127.0.0.1:{scene.server.port}/0?ssl_cert_reqs=required",
        "TORPOR_REDIS_IAM": "false",
    }
    faulty = {"TORPOR_BROKER_URL": f"rediss://:{PASSWORD}@127.0.0.1:{free_port()}/0?ssl_cert_reqs=none"}

    def printed(command: str) -> str:
        calls = [(call, change) for change in (wrong, faulty) for call in COMMANDS[command][1][:1]]
        return "\n".join(scene.run(command, *call, **change) for call, change in calls)

    (scene.folder / "good").write_text("")
    with ThreadPoolExecutor(2) as threads:
        for name, text in zip(COMMANDS, threads.map(printed, COMMANDS), strict=True):
            assert "password" in text or "refuse" in text, (name, text)
            assert PASSWORD not in text, name
