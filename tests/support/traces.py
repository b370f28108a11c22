"""What is searched for the words of people, for passwords and tokens, and for control characters."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Raw, each of these could control a terminal or turn text around; a line feed and a tab may stand in a text.
CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb]", re.UNICODE
)
# Follows the word of each needle.
HARM = "\x1b[31m\x9b\u202e\u2028\r\nFORGED"


def needle(name: str) -> str:
    """A value for a field that a person can set: a word that is nowhere else, and characters that mean harm."""
    return f"needle-{name}{HARM}"


def found(text: str) -> set[str]:
    """The names of the needles whose words are in a text, also if one was printed within another encoding."""
    return set(re.findall(r"needle-(\w+)", text))


def harm(text: str) -> list[str]:
    """Each line of an output or a log that has a raw control character, or begins as a needle wants it."""
    return [line for line in text.split("\n") if CONTROL.search(line) or line.startswith("FORGED")]


@contextmanager
def watched_processes(root: int) -> Iterator[set[str]]:
    """The command lines of all processes below `root` that are seen meanwhile, and that this block has not given."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            seen.update(_command_lines(root))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _command_lines(root: int) -> Iterator[str]:
    waiting = [root]
    while waiting:
        process = waiting.pop()
        with suppress(OSError):  # it has ended
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            if process != root:
                yield Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
