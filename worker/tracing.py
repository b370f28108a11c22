"""Spans by OpenTelemetry's API, if it is installed. Without a configured SDK they do nothing.

Source: https://opentelemetry.io/docs/specs/otel/library-guidelines/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

try:
    from opentelemetry import trace
except ModuleNotFoundError:  # whoever installs an SDK has it
    trace = None  # type: ignore[assignment]


_NONE = nullcontext()


class Place(NamedTuple):
    """The span that the calling thread is in, as hexadecimal ids."""

    trace: str
    span: str
    sampled: bool


def span(name: str, **attributes: str | int) -> AbstractContextManager[None]:
    """A span around a block, `torpor.` and the name. Of an error it has the type: the text could have a message."""
    provider = trace.get_tracer_provider() if trace else None
    if provider is None or isinstance(provider, trace.ProxyTracerProvider):  # no SDK is configured
        return _NONE
    return _recorded(provider, name, attributes)


@contextmanager
def _recorded(provider: Any, name: str, attributes: Mapping[str, str | int]) -> Iterator[None]:
    named = {f"torpor.{key}": value for key, value in attributes.items()}
    tracer = provider.get_tracer("torpor")
    with tracer.start_as_current_span(
        f"torpor.{name}", attributes=named, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


def place() -> Place | None:
    """The span that the calling thread is in; None outside of all spans."""
    if trace is None:
        return None
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return None
    return Place(f"{current.trace_id:032x}", f"{current.span_id:016x}", bool(current.trace_flags.sampled))
