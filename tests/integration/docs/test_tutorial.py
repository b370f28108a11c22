"""docs/tutorial.md is true: its program and its commands run in its order and print what the page shows."""

from __future__ import annotations

import gzip
import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.command import Torpor
from support.paths import ROOT
from support.servers import RedisServer
from torpor import SessionPurged
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
[PROGRAM] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# What differs from run to run: times, ids, epochs, digests, spans and sizes.
_CHANGING = re.compile(r"\d{4}-\d\d-\d\d [\d:]+|\d{8}T\d{6}Z-[0-9a-f]{8}|-[0-9a-f]{8}(?=\.jsonl)|\d{6,}|\d+ B|\b\d+s\b")


def steps() -> Iterator[tuple[str, list[str]]]:
    """Each command of the page's sessions on a terminal, and the lines that it prints."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        for step in re.split(r"^\$ ", "" if language else block, flags=re.MULTILINE)[1:]:
            command, *printed = step.splitlines()
            yield command, printed


def normal(lines: list[str]) -> list[str]:
    return [" ".join(_CHANGING.sub("N", line).split()) for line in lines]


@pytest.mark.single_node(reason="the program is of redis.Redis")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_the_tutorial_runs_as_it_stands(
    redis_server: RedisServer, services: Services, torpor: Torpor, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = PROGRAM.replace("redis://localhost:6379/0", redis_server.url).replace(
        "file:///tmp/tutorial-archive", services.archive.url
    )

    def chat(*said: str) -> str:
        answers = iter([*said, ""])
        monkeypatch.setattr("builtins.input", lambda _: next(answers))
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(program, "tutorial.md", "exec"), {})
        return printed.getvalue()

    purges: list[str] = []
    for command, printed in steps():
        name, *arguments = shlex.split(command)
        if name == "python":
            said = [line.removeprefix("you: ") for line in printed if line.startswith("you: ")]
            assert chat(*said).splitlines() == [line for line in printed if not line.startswith("you:")]
        elif name == "zcat":
            [segment] = Path(urlsplit(services.archive.url).path).glob("v1/*/ann-1/*/*.jsonl.gz")
            assert normal(gzip.decompress(segment.read_bytes()).decode().splitlines()) == normal(printed)
        elif name == "torpor":
            # The first list is from before the idle timeout; a worker archives the session then.
            shown = torpor(*[purges[-1] if argument.startswith("20") else argument for argument in arguments])
            purges += re.findall(r"purge (\S+)$", shown.out.strip())
            assert not printed or normal(shown.out.splitlines()) == normal(printed), command
            if printed[1:] and arguments == ["sessions"]:
                archive_session(services, "ann-1")
    assert len(purges) == 2
    with pytest.raises(SessionPurged):
        chat("too late")
