"""The log as JSON has Cloud Logging's field names, one line for each record, and no character that does anything."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime

import pytest

from torpor.worker.logs.formats import JsonFormatter


def record(message: str, *args: object, error: bool = False) -> logging.LogRecord:
    info = sys.exc_info() if error else None
    return logging.LogRecord("torpor.test", logging.WARNING, __file__, 1, message, args, info)


def test_a_record_has_cloud_loggings_fields() -> None:
    made = record("session %r: %s", "s", "archived")
    fields = json.loads(JsonFormatter().format(made))
    assert fields == {
        "severity": "WARNING",
        "message": "session 's': archived",
        "time": fields["time"],
        "logger": "torpor.test",
        "process": "MainProcess",
    }
    assert datetime.fromisoformat(fields["time"]).timestamp() == pytest.approx(made.created, abs=0.001)


def test_a_traceback_is_a_part_of_the_message() -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        line = JsonFormatter().format(record("it failed", error=True))
    message = json.loads(line)["message"]
    assert message.startswith("it failed\nTraceback (most recent call last):\n")
    assert message.endswith("ValueError: wrong")


def test_a_record_is_one_line_of_printable_ascii() -> None:
    line = JsonFormatter().format(record("a\nb\x1b[31m\u2028\u202e\ud800"))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == "a\nb\x1b[31m\u2028\u202e\ud800"
