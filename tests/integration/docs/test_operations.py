"""docs/operations.md: what it covers, and each of its commands in the situation for which it is meant."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import yaml

from support.command import Torpor
from support.compose import archived, deployment_of, run_image
from support.paths import ROOT
from support.ports import free_port
from support.remedies import ELSEWHERE, FILLED, ROWS, Remedy
from support.scraping import status_of
from support.servers import RedisServer
from support.storage_proxy import StorageProxy
from support.symptoms import World
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.services import Services
from torpor.worker.ops.finding import Ailment
from torpor.worker.ops.status_warnings import Code

PAGE = (ROOT / "docs" / "operations.md").read_text()
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"


def rows() -> Iterator[tuple[str, list[str]]]:
    """The symptom of each row, by its first text in backticks if it has one, and the row's commands."""
    for line in PAGE.partition("\n## What to do when\n")[2].splitlines():
        if line.startswith("| ") and not line.startswith(("| symptom", "| ---")):
            symptom, _, commands = line.strip("| ").split(" | ")
            named = re.search("`([^`]+)`", symptom)
            yield named[1] if named else symptom, re.findall("`(torpor [^`]+)`", commands)


def lines() -> list[str]:
    """The commands in the page's blocks."""
    return [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def of_program(name: str) -> list[str]:
    return [line for line in lines() if line.startswith(f"{name} ")]


def lasting() -> dict[str, str]:
    """The processes of the page that run until they are stopped, by their command."""
    return {
        line.split()[1]: line for line in of_program("torpor") if line.split()[1] in ("worker", "beat", "serve-metrics")
    }


# The page


def test_the_page_is_in_the_order_of_an_operators_work_and_is_short() -> None:
    assert re.findall("^## (.*)$", PAGE, re.MULTILINE) == ["Deploy", "Watch", "Alert", "What to do when"]
    assert len(PAGE.encode()) < 21_073
    assert PAGE.count("\n") < 263


def test_each_alert_each_warning_of_status_and_each_finding_of_the_doctor_has_one_row() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    symptoms = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| ")]
    named = [text for symptom in symptoms for text in re.findall("`([^`]+)`", symptom)]
    for each in [*(rule["alert"] for rule in rules), *map(str, Code), *map(str, Ailment)]:
        assert named.count(each) == 1, each


def test_every_command_of_the_page_is_run_here() -> None:
    assert {symptom: set(commands) for symptom, commands in rows() if commands} == {
        str(symptom): set(commands) for symptom, commands in ROWS.items()
    }
    others = {
        *of_program("torpor"),
        *re.findall("`(torpor [^`]+)`", PAGE.partition("\n## Alert\n")[2].partition("\n## ")[0]),
    }
    assert others == {*ELSEWHERE, *lasting().values()}
    tried = {"torpor", "terraform", "kubectl", "gcloud", "promtool", "curl"}
    assert {line.split()[0] for line in lines()} == tried


# Its commands


def remedies() -> Iterator[tuple[str, str, Remedy]]:
    for symptom, commands in ROWS.items():
        yield from ((symptom, command, remedy) for command, remedy in commands.items())
    yield from (("", command, remedy) for command, remedy in ELSEWHERE.items())


def _named(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.fixture
def world(services: Services, proxy: StorageProxy, torpor: Torpor, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(services, proxy, torpor, monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("as_in_cloud_storage")
@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
@pytest.mark.parametrize(("symptom", "command", "remedy"), list(remedies()), ids=_named)
def test_a_command_of_the_page_does_what_its_row_says(world: World, symptom: str, command: str, remedy: Remedy) -> None:
    remedy.cause(world)
    if remedy.cures:
        assert symptom in world.torpor("doctor").said
    if remedy.before:
        remedy.before(world)
    program, *arguments = [FILLED.get(part, part) for part in shlex.split(command.partition(" | ")[0])]
    assert program == "torpor"
    done = world.torpor(*arguments)
    assert done.code == remedy.code, done.said
    assert remedy.says in done.said
    if remedy.cures:
        assert world.torpor("doctor").code == 0


@pytest.mark.slow
@pytest.mark.single_node(reason="Celery has no Cluster as its broker")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_worker_beat_and_metrics_run_as_the_page_starts_them(
    client: redis.Redis, redis_server: RedisServer, archive_url: str, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, archive_url, listen=False)
    port = str(free_port())
    worker, beat, serving = (shlex.split(lasting()[name]) for name in ("worker", "beat", "serve-metrics"))
    served = [part.replace("9464", port) for part in serving]
    with (
        run_image("worker", worker, deployment, tmp_path),
        run_image("beat", beat, deployment, tmp_path),
        run_image("metrics", served, deployment, tmp_path),
    ):
        MemorystoreChatMessageHistory(client, "s", 1).add_user_message("hello")
        wait_until(lambda: archived(deployment) == 1, 60, "beat and worker work")
        wait_until(lambda: status_of(int(port), "/readyz") == 200, 60, "it serves")
        for line in of_program("curl"):
            done = subprocess.run(shlex.split(line.replace("9464", port)), capture_output=True, check=True)
            assert done.stdout


# Commands of clouds: no cloud is at hand, so the files that they name must be right for them.


OF_CLOUDS: dict[str, Callable[[Path], bool]] = {
    r"terraform -chdir=(\S+) (?:init|apply)": lambda path: any(path.glob("*.tf")),
    r"kubectl apply -k (\S+)": lambda path: (path / "kustomization.yaml").is_file(),
    r"gcloud run worker-pools replace (\S+)": lambda path: yaml.safe_load(path.read_text())["kind"] == "WorkerPool",
}


@pytest.mark.parametrize("command", [line for name in ("terraform", "kubectl", "gcloud") for line in of_program(name)])
def test_a_command_of_a_cloud_names_files_of_its_kind(command: str) -> None:
    [is_right] = [check(ROOT / found[1]) for form, check in OF_CLOUDS.items() if (found := re.fullmatch(form, command))]
    assert is_right


def test_the_rules_are_checked_as_the_page_says() -> None:
    [command] = of_program("promtool")
    assert subprocess.run(shlex.split(command), cwd=ROOT, check=False, capture_output=True).returncode == 0
