"""The log of Celery's processes: no text that a sender of tasks has chosen passes for a record, or tells whose it is.

As text, each record begins with `[` and its time. Its further lines are indented, and control characters are escapes.
Of a message that Celery refuses, it would log all arguments, such as an owner and a reason; the log says only why.

Celery logs each try to reach its broker, and each sweep. Here an outage has two lines, and what happens all the time
has the level DEBUG.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from celery._state import get_current_task
from celery.app import trace
from celery.app.log import Logging, TaskFormatter
from celery.exceptions import SecurityError
from celery.utils.log import ColorFormatter
from celery.worker.consumer import consumer
from kombu.exceptions import ContentDisallowed

from torpor.worker.control_characters import printable
from torpor.worker.logs import outages
from torpor.worker.logs.formats import JsonFormatter
from torpor.worker.logs.outages import Service

# Celery's records of messages that it refuses, and what the log says instead.
_REFUSALS = {
    consumer.UNKNOWN_FORMAT: "it is no task",
    consumer.UNKNOWN_TASK_ERROR: "there is no task of that name",
    consumer.INVALID_TASK_ERROR: "it is no valid task",
    consumer.MESSAGE_DECODE_ERROR: "it can't be read, or is signed wrongly",
}
# Celery's records of a broker that can't be reached, by their beginnings, and which argument has the error.
_LOST = "%s (%r)"  # its first argument is consumer.CONNECTION_RETRY
_BROKER_FAILS = {
    consumer.CONNECTION_ERROR: 1,
    _LOST: 1,
    "Couldn't ack %r": 1,
    "Couldn't reject %r": 1,
    "Message Error: %s": 0,
    "beat: Connection error: %s.": 0,
}
_BROKER_WORKS = "Connected to %s"
# What beat sends again and again.
_ROUTINE = ("torpor.sweep", "torpor.sweep_purges", "torpor.sweep_jobs", "torpor.expire")
# A drain logs itself what it has done, and a sweep has only sent drains.
_TOLD_BY_DRAINS = ("torpor.sweep", "torpor.drain")
# Errors that are told of where they are noticed, once until they have passed.
_TOLD = re.compile("RedisUnavailable|ArchiveUnavailable|ArchiveMisconfigured|ArchiveTaken|DeploymentMismatch")
_SENDING = "Scheduler: Sending due task %s (%s)"


class NotAcknowledged(ConnectionResetError):
    """A message could not be acknowledged, so the connection to the broker was lost. That was told of then."""


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


class _Json(JsonFormatter):
    def __init__(self, *_: Any, **__: Any) -> None:
        """Celery gives a format, which JSON has not."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        return super().format(_without_contents(record))


class _JsonTask(_Json):
    """The same with the name and the id of the task."""

    def format(self, record: logging.LogRecord) -> str:
        task = get_current_task()
        if task and task.request:
            record.__dict__.update(task_id=task.request.id, task_name=task.name)
        return super().format(record)


_FORMATTERS: Mapping[str, Mapping[Any, Any]] = {
    "text": {ColorFormatter: _Escaping, TaskFormatter: _EscapingTask},
    "json": {ColorFormatter: _Json, TaskFormatter: _JsonTask},
}


class EscapedLogging(Logging):  # type: ignore[misc]
    """Celery's logging with formatters that escape, in the format of the settings."""

    def setup_handlers(self, logger: Any, *arguments: Any, formatter: Any = ColorFormatter, **options: Any) -> Any:
        """Set up the handlers of a logger, as Celery does."""
        escaping = _FORMATTERS[self.app.conf.torpor_log_format][formatter]
        outages.share()
        logger = super().setup_handlers(logger, *arguments, formatter=escaping, **options)
        broker = Service.REDIS if self.app.conf.torpor_broker_is_redis else Service.BROKER
        for handler in logger.handlers:
            handler.addFilter(_Quiet(broker))
        return logger


class _Quiet(logging.Filter):
    """Takes Celery's records of an outage for the outage, and gives routine the level DEBUG."""

    def __init__(self, broker: Service) -> None:
        super().__init__()
        self._broker = broker

    def filter(self, record: logging.LogRecord) -> bool:
        """True if the record shall be logged."""
        if not (self._of_outage(record) or _is_routine(record)):
            return True
        if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            return False
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return True

    def _of_outage(self, record: logging.LogRecord) -> bool:
        template = str(record.msg)
        if template.startswith(_BROKER_WORKS):
            outages.end(self._broker)
            return False
        for beginning, place in _BROKER_FAILS.items():
            if not (template.startswith(beginning) and isinstance(record.args, tuple)):
                continue
            if beginning != _LOST or record.args[0] == consumer.CONNECTION_RETRY:
                error = record.args[place]
                if not isinstance(error, NotAcknowledged):
                    outages.begin(self._broker, error)
                return True
        return False


def _is_routine(record: logging.LogRecord) -> bool:
    """True for what is logged elsewhere, or finds nothing, and for a failure whose reason was logged once."""
    if record.msg == _SENDING:
        return isinstance(record.args, tuple) and record.args[0] in _ROUTINE
    if not isinstance(record.args, Mapping):
        return False
    if record.args.get("description") == trace.log_policy_expected.description:
        return _TOLD.search(str(record.args.get("exc"))) is not None
    name = record.args.get("name")
    if name in _TOLD_BY_DRAINS:
        return record.msg in (trace.LOG_RECEIVED, trace.LOG_SUCCESS)
    return name in _ROUTINE and (
        record.msg == trace.LOG_RECEIVED
        or (record.msg == trace.LOG_SUCCESS and str(record.args.get("return_value")) == "0")
    )


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
