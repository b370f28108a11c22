"""The README's examples run, and its tables are what the code has."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import agents
import pytest
import redis
import yaml
from pydantic import SecretStr

from support.command import names_of_commands
from support.fake_models import AgentParrot
from support.keyspace import raw
from support.paths import ROOT
from support.servers import RedisServer
from torpor import MemorystoreChatMessageHistory
from torpor.worker.console.settings import ConsoleSettings
from torpor.worker.deployment.celery_config import make_app
from torpor.worker.deployment.environment import CONSOLE_PREFIX, PREFIX
from torpor.worker.deployment.policy_settings import PolicySettings
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import Settings
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.session_archive import SessionArchive

README = (ROOT / "README.md").read_text()
EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def example_with(text: str) -> str:
    [example] = [example for example in EXAMPLES if text in example]
    return example


@pytest.mark.single_node(reason="the example is of redis.Redis")
def test_the_first_example_runs_as_it_stands(
    client: redis.Redis, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    example = EXAMPLES[0]
    assert example.strip().count("\n") <= 10
    exec(compile(example.replace("redis://localhost:6379/0", redis_server.url), "README.md", "exec"), {})
    assert "It arrives on Friday." in capsys.readouterr().out
    info = MemorystoreChatMessageHistory(client, "user-42", owner="ann").info()
    assert info
    assert (info.status, info.message_count, info.owner) == ("due", 2, "ann")


@pytest.mark.single_node(reason="the example is of redis.asyncio.Redis")
def test_the_asyncio_example_runs_as_it_stands(
    client: redis.Redis, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    example = example_with("redis.asyncio")
    exec(compile(example.replace("redis://localhost:6379/0", redis_server.url), "README.md", "exec"), {})
    assert "It arrives on Friday." in capsys.readouterr().out
    assert len(MemorystoreChatMessageHistory(client, "user-43")) == 2


def test_the_archive_example_wakes_a_session(services: Services) -> None:
    said = MemorystoreChatMessageHistory(services.sessions.client, "user-42", owner="ann")
    said.add_user_message("Where is my order?")
    archive_session(services, "user-42")
    scope: dict[str, Any] = {"client": services.sessions.client}
    example = example_with("SessionArchive").replace("gs://my-bucket/chats", services.archive.url)
    exec(compile(example, "README.md", "exec"), scope)
    assert [message.content for message in scope["chat"].messages] == ["Where is my order?"]


@pytest.mark.single_node(reason="the example connects to one node")
def test_the_example_of_the_agents_sdk_runs_as_it_stands(services: Services, redis_server: RedisServer) -> None:
    scope: dict[str, Any] = {"archive": SessionArchive(services.archive.url)}
    example = example_with("MemorystoreSession").replace("redis://localhost:6379/0", redis_server.url)
    exec(compile(example, "README.md", "exec"), scope)
    agents.set_tracing_disabled(True)
    agent = agents.Agent(name="parrot", model=AgentParrot())
    assert asyncio.run(scope["answer"](agent, "Where is my order?")) == "1 items"
    assert archive_session(services, "user-44").messages == 2
    assert asyncio.run(scope["answer"](agent, "And now?")) == "3 items"


@pytest.mark.single_node(reason="Celery has no Cluster as its broker")
def test_the_celery_example_asks_a_worker_for_a_restore(client: redis.Redis, redis_server: RedisServer) -> None:
    scope: dict[str, Any] = {}
    example = example_with("send_task")
    exec(compile(example.replace("redis://localhost:6379/0", redis_server.url), "README.md", "exec"), scope)
    scope["app"].close()
    queue = make_app(lambda: Settings(archive_url="file:///nowhere")).conf
    key = f"{queue.broker_transport_options['global_keyprefix']}{queue.task_default_queue}"
    [message] = raw(client, "LRANGE", key, 0, -1)
    assert b"torpor.restore_session" in message


def test_the_settings_table_is_what_the_settings_are() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| `(TORPOR_\w+)` \| (.*) \|$", page, re.MULTILINE))
    expected = {}
    for prefix, settings in ((PREFIX, Settings), (CONSOLE_PREFIX, ConsoleSettings)):
        for name, field in settings.model_fields.items():
            default = "required"
            if not field.is_required():
                value = field.get_default()
                value = value.get_secret_value() if isinstance(value, SecretStr) else value
                default = "" if value in (None, frozenset()) else f"`{value}`"
            expected[prefix + name.upper()] = f"{default} | {field.description}"
    assert rows == expected


def test_the_page_of_policies_names_all_that_a_policy_can_say_and_its_example_is_right() -> None:
    page = (ROOT / "docs" / "policies.md").read_text()
    assert set(PolicySettings.model_fields) <= set(re.findall(r"`(\w+)`", page))
    [example] = re.findall(r"export TORPOR_POLICIES='(.*?)'", page, re.DOTALL)
    settings = Settings(archive_url="file:///nowhere", policies=example)
    assert len(settings.rules.rules) == 3


def test_every_command_of_the_reference_exists_and_the_other_way_round() -> None:
    page = (ROOT / "docs" / "reference" / "command.md").read_text()
    named = re.findall(r"^\| `torpor ([\w-]+)", page, re.MULTILINE)
    assert sorted(named) == sorted(names_of_commands())


def test_the_readme_starts_the_processes_that_the_images_run() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    image_command = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert yaml.safe_load(image_command[0]) == services["worker"]["command"]
    for service in ("worker", "beat"):
        assert " ".join(services[service]["command"]) in README


def test_every_relative_link_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
