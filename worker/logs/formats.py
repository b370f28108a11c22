"""The log as JSON, a line for each record, with the field names of Cloud Logging.

Source: https://cloud.google.com/logging/docs/structured-logging#structured_logging_special_fields
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from torpor.worker import tracing

# Fields that a record may have besides Python's own, and their names in Cloud Logging.
_MORE = {"task_name": "task", "task_id": "task_id"}


class JsonFormatter(logging.Formatter):
    """One JSON object for each record. A traceback is a part of the message, where Error Reporting looks for it.

    The text is ASCII, so no character of it controls a terminal or ends the line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        fields: dict[str, Any] = {
            "severity": record.levelname,
            "message": message,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "logger": record.name,
            "process": record.processName,
        }
        if place := tracing.place():
            fields |= {
                "logging.googleapis.com/trace": place.trace,
                "logging.googleapis.com/spanId": place.span,
                "logging.googleapis.com/trace_sampled": place.sampled,
            }
        fields |= {name: value for field, name in _MORE.items() if (value := getattr(record, field, None))}
        return json.dumps(fields, default=str)
