"""The command that serves the metrics of a deployment from a process of its own."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Annotated

import typer

from torpor.worker.cli import printing
from torpor.worker.deployment.settings import load_settings
from torpor.worker.logs.formats import JsonFormatter
from torpor.worker.monitoring.monitor import Monitor

# The port of OpenTelemetry's exporter for Prometheus; it has no other meaning.
_PORT = 9464


def serve_metrics(
    context: typer.Context,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The port; TORPOR_HTTP_PORT, or 9464, unless given.")
    ] = None,
) -> None:
    """Serve /metrics, /livez and /readyz until SIGTERM or Ctrl-C.

    The figures are the deployment's, so one such process is enough, and workers need no port of their own.

    Example: torpor serve-metrics --port 9464
    """
    settings = load_settings(context.obj)
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    wanted = port or settings.http_port or _PORT
    try:
        monitor = Monitor(settings, wanted, faults=tuple)
    except OSError as error:
        printing.warn(f"torpor: port {wanted} can't be opened: {error.strerror}")
        raise typer.Exit(2) from None
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    monitor.start()
    try:
        ended.wait()
    finally:
        monitor.stop()
