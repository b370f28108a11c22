"""docs/migrating.md is true: its examples and commands run on sessions of other libraries."""

from __future__ import annotations

import re
import runpy
import shlex

import pytest
import redis

from support.command import Torpor
from support.foreign import LAYOUTS, Foreign
from support.paths import ROOT
from support.servers import RedisServer
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import FORMATS, Layout

PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [shlex.split(line) for line in re.findall(r"^ +torpor (.+)$", PAGE, re.MULTILINE)]

pytestmark = pytest.mark.single_node(reason="the examples are of redis.Redis")


@pytest.mark.parametrize(("example", "session_id"), list(zip(EXAMPLES, ["user-42", "user-43"], strict=True)))
def test_the_examples_take_over_what_the_other_library_has_written(
    client: redis.Redis, redis_server: RedisServer, capsys: pytest.CaptureFixture[str], example: str, session_id: str
) -> None:
    Foreign(client, session_id=session_id).add("It arrives on Friday.")
    exec(compile(example.replace("redis://localhost:6379/0", redis_server.url), "migrating.md", "exec"), {})
    assert "It arrives on Friday." in capsys.readouterr().out
    chat = MemorystoreChatMessageHistory(client, session_id)
    assert [message.content for message in chat.messages] == ["It arrives on Friday.", "Where were we?"]


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_the_commands_do_what_the_page_says_in_its_order(client: redis.Redis, torpor: Torpor) -> None:
    for number in range(40, 45):
        Foreign(client, session_id=f"user-{number}").add("a")
        Foreign(client, LAYOUTS["community"], f"c-{number}").add("a")
        Foreign(client, Layout("chat:", newest_first=True), f"p-{number}").add("a")
    Foreign(client, session_id="ann:7").add("a")
    *moves, purge = COMMANDS
    said = [torpor(*command) for command in moves]
    assert [result.code for result in said] == [0] * len(moves)
    assert [result.out.splitlines()[-1] for result in said if not result.out.startswith("{")] == [
        "would adopt: 5 sessions, 5 messages",
        "adopted: 5 sessions, 5 messages",
        "adopted: 5 sessions, 5 messages",
        "would adopt: 1 sessions, 1 messages",
        "given back: returned:user-42, 1 messages",
        "given back: 14 sessions; 1 have their key already",
    ]
    wait_until(lambda: torpor(*purge, "--dry-run").out.splitlines()[-1].startswith("would purge: 15 sessions"))
    assert torpor(*purge, "--yes").out.startswith("complete: 15 sessions, 15 messages")
    assert [message.content for message in Foreign(client, session_id="returned:p-44").messages] == ["a"]


def test_the_table_of_formats_is_what_the_captured_elements_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "_formats.py"))["formats_table"]()
    [shown] = re.findall(r"<!-- generated: formats -->\n(.*?)<!-- generated: end -->", PAGE, re.DOTALL)
    assert shown == made, "python docs/_generate.py"
    assert {re.findall("`([a-z-]+)`", line)[0] for line in made.splitlines()[2:]} == set(FORMATS)


def test_the_table_of_kinds_is_what_the_captured_elements_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "_formats.py"))["kinds_table"]()
    [shown] = re.findall(r"<!-- generated: kinds -->\n(.*?)<!-- generated: end -->", PAGE, re.DOTALL)
    assert shown == made, "python docs/_generate.py"
    assert "refused" not in made
    assert "another element" not in made
    assert made.count("converted") > 40
