"""The installed wheel, in a directory whose user has modules of the same names as Torpor's folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from support.environments import Environment, new_environment, users_directory
from support.keyspace import raw
from support.paths import ROOT
from support.servers import RedisServer
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.settings import Settings

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.single_node(reason="the README's snippet is of redis.Redis"),
]


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    return {
        "REDIS_URL": redis_server.url,
        "ARCHIVE_URL": (tmp_path / "archive").as_uri(),
        "SWEEP_INTERVAL_SECONDS": "0.5",
    }


@pytest.fixture
def snippet(users: Path, redis_server: RedisServer) -> Path:
    """The first example of the README as a file in the user's directory."""
    [example, *_] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = users / "chat.py"
    file.write_text(example.replace("redis://localhost:6379/0", redis_server.url))
    return file


def test_the_user_s_modules_are_traps(installed: Environment, users: Path) -> None:
    for name in ("worker", "history"):
        trapped = installed.run("python", "-c", f"import {name}", cwd=users)
        assert f"{name}/__init__.py of the user was imported" in trapped.stderr


@pytest.mark.usefixtures("client")
def test_the_snippet_of_the_readme_needs_no_extra(base: Environment, snippet: Path) -> None:
    done = base.run("python", snippet.name, cwd=snippet.parent)
    assert (done.returncode, "It arrives on Friday." in done.stdout) == (0, True), done.stderr


def test_a_worker_archives_what_the_snippet_has_written(
    client: redis.Redis, installed: Environment, snippet: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    users = snippet.parent
    log = tmp_path / "worker.log"
    options = ["--loglevel", "INFO", "--concurrency", "1", "--without-gossip", "--without-mingle"]
    with installed.started("torpor", "worker", *options, cwd=users, log=log, **settings) as worker:
        done = installed.run("python", snippet.name, cwd=users)
        assert done.returncode == 0, done.stderr
        chat = MemorystoreChatMessageHistory(client, "user-42", owner="ann")
        wait_until(lambda: chat.info() is None or worker.poll() is not None, 60, "the session is archived")
        assert worker.poll() is None, log.read_text()
    assert worker.returncode == 0, log.read_text()
    assert len(list((tmp_path / "archive").rglob("*.jsonl.gz"))) == 1
    shown = installed.run("torpor", "show", "user-42", cwd=users, **settings)
    assert "It arrives on Friday." in shown.stdout, shown.stderr


def test_beat_sends_sweeps(
    client: redis.Redis, installed: Environment, users: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    queue = make_app(lambda: Settings(archive_url="file:///nowhere")).conf
    key = f"{queue.broker_transport_options['global_keyprefix']}{queue.task_default_queue}"
    log = tmp_path / "beat.log"
    options = ["--loglevel", "INFO", "--schedule", str(tmp_path / "schedule")]
    with installed.started("torpor", "beat", *options, cwd=users, log=log, **settings) as beat:
        wait_until(lambda: raw(client, "LLEN", key) or beat.poll() is not None, 60, "a message is in the queue")
        assert beat.poll() is None, log.read_text()
    assert b"torpor.sweep" in raw(client, "LINDEX", key, -1)


def test_celery_s_own_command_finds_the_app(installed: Environment, users: Path, settings: dict[str, str]) -> None:
    report = installed.run("celery", "-A", "torpor.worker.app", "report", cwd=users, **settings)
    assert (report.returncode, "torpor.sweep" in report.stdout) == (0, True), report.stderr


def test_no_module_is_loaded_under_two_names(installed: Environment, users: Path, settings: dict[str, str]) -> None:
    script = Path(__file__).parent / "loaded_modules.py"
    done = installed.run("python", "-P", str(script), "torpor", cwd=users, **settings)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["worker", "--help"], []], ids=" ".join)
def test_a_base_install_says_how_to_install_the_command(base: Environment, users: Path, arguments: list[str]) -> None:
    for command in (["torpor"], ["python", "-P", "-m", "torpor"]):
        done = base.run(*command, *arguments, cwd=users)
        assert (done.returncode, done.stdout) == (2, "")
        assert "pip install 'torpor[worker]'" in done.stderr
        assert "Traceback" not in done.stderr
        assert "No module named" not in done.stderr


def test_a_worker_s_install_says_how_to_install_the_console(
    installed: Environment, users: Path, settings: dict[str, str]
) -> None:
    done = installed.run("torpor", "console", cwd=users, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'torpor[console]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_needs_an_extra_says_which_one(base: Environment, users: Path) -> None:
    done = base.run("python", "-c", "from torpor import SessionArchive", cwd=users)
    assert "ImportError: SessionArchive needs pip install 'torpor[archive]'" in done.stderr
    assert "No module named" not in done.stderr


def test_an_editable_install_runs_the_checkout_s_code(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("editable")
    editable = new_environment(folder, "--editable", f"{ROOT}[worker]")
    users = users_directory(folder / "user")
    code = "import torpor.worker.app as app; print(app.__file__)"
    told = editable.run("python", "-P", "-c", code, cwd=users, **settings)
    assert Path(told.stdout.strip()).resolve() == ROOT / "worker" / "app.py", told.stderr
    version = editable.run("torpor", "--version", cwd=users)
    assert version.stdout.startswith("torpor "), version.stderr
