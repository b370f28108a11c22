"""Another team's Celery application that receives events.

With tests/ on PYTHONPATH: `celery -A support.subscriber worker`.

SUBSCRIBER_BROKER   the broker's URL
SUBSCRIBER_FILE     one JSON line for each event
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

app = Celery(broker=os.environ["SUBSCRIBER_BROKER"])
app.conf.broker_transport_options = {"global_keyprefix": "torpor:celery:"}
app.conf.task_default_queue = "torpor-events"
app.conf.broker_connection_retry_on_startup = True


@app.task(name="crm.note")  # type: ignore[untyped-decorator]
def note(event: dict[str, str]) -> None:
    with Path(os.environ["SUBSCRIBER_FILE"]).open("a") as lines:
        lines.write(json.dumps(event) + "\n")
