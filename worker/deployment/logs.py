"""The log of Celery's processes: no text that a sender of tasks has chosen passes for a record, or tells whose it is.

Each record begins with `[` and its time. Its further lines are indented, and control characters are escapes. Of a
message that Celery refuses, it would log all arguments, such as an owner and a reason; the log says only why.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.app.log import Logging, TaskFormatter
from celery.exceptions import SecurityError
from celery.utils.log import ColorFormatter
from celery.worker.consumer import consumer
from kombu.exceptions import ContentDisallowed

from torpor.worker.control_characters import printable

# Celery's records of messages that it refuses, and what the log says instead.
_REFUSALS = {
    consumer.UNKNOWN_FORMAT: "it is no task",
    consumer.UNKNOWN_TASK_ERROR: "there is no task of that name",
    consumer.INVALID_TASK_ERROR: "it is no valid task",
    consumer.MESSAGE_DECODE_ERROR: "it can't be read, or is signed wrongly",
}


class _Escaping(ColorFormatter):  # type: ignore[misc] # Celery is untyped
    """Celery's formatter, whose colours are the only control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return str(super().format(_without_contents(record)))

    def formatMessage(self, record: Any) -> str:  # noqa: N802 - the name is logging's
        return _indented(super().formatMessage(record))

    def formatException(self, exception: Any) -> str:  # noqa: N802
        return "    " + _indented(super().formatException(exception))


class _EscapingTask(TaskFormatter, _Escaping):  # type: ignore[misc]
    """The same for the log of tasks, which has their names and ids."""


_ESCAPING = {ColorFormatter: _Escaping, TaskFormatter: _EscapingTask}


class EscapedLogging(Logging):  # type: ignore[misc]
    """Celery's logging with formatters that escape."""

    def setup_handlers(self, *arguments: Any, formatter: Any = ColorFormatter, **options: Any) -> Any:
        """Set up the handlers of a logger, as Celery does."""
        return super().setup_handlers(*arguments, formatter=_ESCAPING[formatter], **options)


def _without_contents(record: logging.LogRecord) -> logging.LogRecord:
    """The record, or if it is of a message that Celery refuses, one without the message."""
    if (why := _REFUSALS.get(str(record.msg))) is None:
        return record
    error = record.exc_info[1] if record.exc_info else None
    for each in (error, *getattr(error, "args", ())):  # kombu's DecodeError has the error of the signature
        if isinstance(each, (ContentDisallowed, SecurityError)):
            why = str(each)
    short = {"msg": f"a message was refused and deleted: {why}", "args": (), "exc_info": None, "exc_text": None}
    return logging.makeLogRecord({**vars(record), **short})


def _indented(text: str) -> str:
    return printable(text).replace("\n", "\n    ")
