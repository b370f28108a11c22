"""What the torpor command loads, completes, and hands over to Celery."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import redis

from support.waiting import scaled
from torpor.worker import cli
from torpor.worker.app import app

pytestmark = pytest.mark.slow

TORPOR = Path(sys.executable).with_name("torpor")
# Prints the names of all modules to standard error when the command has ended.
LOADED = """
import sys
from torpor.worker.cli import main
sys.argv = ["torpor", *sys.argv[1:]]
try:
    main()
finally:
    sys.stderr.write(" ".join(sys.modules))
"""
HEAVY = {"langchain_core", "celery", "kombu", "google", "requests"}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(TORPOR), *arguments]
    environment = os.environ | variables
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=scaled(60))


def loaded_by(*arguments: str, **variables: str) -> set[str]:
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | variables)
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_loads_no_module_of_a_command(option: str) -> None:
    assert not loaded_by(option) & (HEAVY | {"redis", "pydantic", "rich"})


@pytest.mark.single_node(reason="a broker URL of its own is checked by kombu")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_status_of_a_folder_loads_neither_langchain_nor_celery_nor_google(
    client: redis.Redis, variables: dict[str, str]
) -> None:
    loaded = loaded_by("status", **{f"TORPOR_{name}": value for name, value in variables.items()})
    assert "redis" in loaded
    assert not loaded & (HEAVY | {"rich"})


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"torpor {version('torpor')}\n"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("torpor pur", {"purge", "purge-status"}),
        ("torpor wor", {"worker"}),
        ("torpor purge --own", {"--owner"}),
        ("torpor purge --scope l", {"live"}),
    ],
)
def test_commands_and_their_options_are_completed(words: str, completed: set[str]) -> None:
    position = str(len(words.split()) - 1)
    done = run(_TORPOR_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=position)
    assert set(done.stdout.split()) == completed


def test_completion_is_installed_for_a_shell(tmp_path: Path) -> None:
    # Typer asks which shell has started it. A test has no shell, so it names one.
    variables = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert run("--install-completion", "bash", **variables).returncode == 0
    assert "_TORPOR_COMPLETE" in (tmp_path / ".bash_completions" / "torpor.sh").read_text()
    assert "_TORPOR_COMPLETE" in run("--show-completion", "bash", **variables).stdout


@pytest.mark.parametrize("given", [[], ["--namespace", "chats"]], ids=["at once", "after an option of torpor"])
@pytest.mark.parametrize("command", ["worker", "beat"])
def test_all_arguments_reach_celery_as_they_are(
    command: str, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], Any]] = []

    def main(arguments: list[str], *, obj: Any, **_: Any) -> None:
        started.append((arguments, obj.app))
        sys.exit(3)

    monkeypatch.setattr(getattr(import_module(f"celery.bin.{command}"), command), "main", main)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    arguments = ["-l", "INFO", "--help", "-h", "--no-such-option", "--", "worker.prefetch_multiplier=2", "--", "x"]
    monkeypatch.setattr(sys, "argv", ["torpor", *given, command, *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    collects = gc.isenabled()
    gc.enable()
    assert ended.value.code == 3
    assert started == [(arguments, app)]
    assert collects is (command == "beat")  # a worker begins to collect when its pool has been forked
    assert os.environ.get("TORPOR_NAMESPACE") == (given[1] if given else None)
    # What a worker runs that detaches itself, or starts again.
    assert sys.argv[0].endswith("celery/__main__.py")
    assert sys.argv[1:] == ["-A", "torpor.worker.app", command, *arguments]


def test_a_worker_loads_nothing_that_only_other_commands_need() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "worker", "--help"], check=True, capture_output=True, text=True
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "celery" in loaded
    assert not loaded & {"prompt_toolkit", "click_repl", "typer", "rich", "prometheus_client"}


def test_celery_answers_for_its_options_and_its_exit_code() -> None:
    shown = run("worker", "--help")
    assert (shown.returncode, "--concurrency" in shown.stdout) == (0, True)
    assert "--schedule" in run("beat", "--help").stdout
    wrong = run("worker", "--no-such-option")
    assert (wrong.returncode, "No such option" in wrong.stderr) == (2, True)
    refused = run("worker", "--pool", "solo", TORPOR_ARCHIVE_URL="s3://bucket")
    assert (refused.returncode, "wrong settings" in refused.stderr) == (2, True)
    assert "Traceback" not in refused.stderr
