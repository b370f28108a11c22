"""Spans of OpenTelemetry: what they are around, and that they have no word of a message."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.sessions import purge_session
from support.waiting import wait_until
from torpor.history.protocol import Expiry
from torpor.worker import tracing
from torpor.worker.deployment.services import Services
from torpor.worker.logs.formats import JsonFormatter
from torpor.worker.sleep.drain import drain
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
SECRET = b'{"type": "human", "data": {"content": "a secret"}}'


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def named(spans: tuple[ReadableSpan, ...]) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans}


def drain_due(services: Services) -> None:
    wait_until(services.sessions.due_counts)
    drain(services, list(services.sessions.due_counts()))


def test_the_way_of_a_session_has_spans_that_belong_together(
    services: Services, exported: InMemorySpanExporter
) -> None:
    services.sessions.append("s", [SECRET], expiry=Expiry(idle=timedelta(seconds=1)))
    drain_due(services)
    asleep = named(exported.get_finished_spans())
    assert set(asleep) == {"torpor.drain", "torpor.session", "torpor.upload", "torpor.commit"}
    parents = {name: span.parent.span_id for name, span in asleep.items() if span.parent}
    ids = {span.context.span_id: name for name, span in asleep.items()}
    assert {name: ids[parent] for name, parent in parents.items()} == {
        "torpor.session": "torpor.drain",
        "torpor.upload": "torpor.session",
        "torpor.commit": "torpor.drain",
    }
    restore_session(services, "s")
    services.sessions.append("s", [SECRET], expiry=Expiry(idle=timedelta(seconds=1)))
    drain_due(services)
    purge_session(services, "s")
    spans = exported.get_finished_spans()
    assert {"torpor.restore", "torpor.verify", "torpor.purge"} <= set(named(spans))
    assert "secret" not in "".join(span.to_json() for span in spans)


def test_an_error_is_noted_by_its_type_and_a_log_record_names_the_trace(
    services: Services, exported: InMemorySpanExporter
) -> None:
    def fail() -> None:
        with tracing.span("session"):
            record = logging.LogRecord("torpor", logging.INFO, __file__, 1, "inside", (), None)
            lines.append(JsonFormatter().format(record))
            raise ValueError("a secret")

    lines: list[str] = []
    with pytest.raises(ValueError, match="secret"):
        fail()
    [span] = exported.get_finished_spans()
    assert span.status.description == "ValueError"
    assert "secret" not in span.to_json()
    assert json.loads(lines[0])["logging.googleapis.com/trace"] == f"{span.context.trace_id:032x}"


def test_without_opentelemetry_a_span_does_nothing(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "trace", None)
    with tracing.span("drain", shards=1):
        assert tracing.place() is None
