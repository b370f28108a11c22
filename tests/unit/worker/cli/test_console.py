"""What is printed in pieces is what would be printed at once."""

from __future__ import annotations

import json
import sys

import pytest

from torpor.worker.cli import printing
from torpor.worker.transfer.speech import Speech

TEXT = "".join(f"{each} \u00e4\u20ac\U0001f600\x1b\n" for each in range(60_000))


def test_large_json_is_printed_with_each_character_whole(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    printing.print_json_parts([b"[", json.dumps(TEXT, ensure_ascii=False).encode(), b"]\n"])
    sys.stdout.flush()
    assert json.loads(capfdbinary.readouterr().out) == [TEXT]


def test_a_large_text_is_printed_whole(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    printing.print_transcript([Speech("human", TEXT)])
    sys.stdout.flush()
    said = capfdbinary.readouterr().out.decode()
    assert said == "human\n  " + TEXT.replace("\x1b", "\\x1b").replace("\n", "\n  ") + "\n"
