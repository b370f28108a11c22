"""The `torpor` command in this process: its exit code, and what it prints for people and for programs."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from torpor.worker import cli
from torpor.worker.cli.commands import app
from torpor.worker.deployment.environment import PREFIX


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def said(self) -> str:
        """All of its output on one line, however wide the terminal is."""
        return " ".join((self.out + self.err).split())


Torpor = Callable[..., Result]


def is_refused(done: Result, *words: str) -> bool:
    """True if the command was refused with these words, and did nothing."""
    return done.code == 2 and not done.out.startswith("done") and all(word in done.said for word in words)


def succeed(torpor: Torpor, *arguments: str) -> Result:
    """Run the command, which must succeed."""
    done = torpor(*arguments)
    assert done.code == 0, done
    return done


def names_of_commands() -> set[str]:
    return {each.name or each.callback.__name__ for each in app.registered_commands if each.callback}


def command(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Torpor:
    """A function that runs the command with these variables; keywords set others or, with None, unset them."""

    def run(*arguments: str, answer: str = "", **others: str | None) -> Result:
        with monkeypatch.context() as patch:
            for name, value in {**variables, **others}.items():
                if value is None:
                    patch.delenv(PREFIX + name, raising=False)
                else:
                    patch.setenv(PREFIX + name, value)
            patch.setattr(sys, "argv", ["torpor", *arguments])
            patch.setattr(sys, "stdin", io.StringIO(answer))
            capfd.readouterr()
            before = signal.getsignal(signal.SIGINT)
            with pytest.raises(SystemExit) as ended:
                cli.main()
            signal.signal(signal.SIGINT, before)
        printed = capfd.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run
