"""The command that shows the figures of the deployment live."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from torpor.history.protocol import InvalidArgument, TransientError
from torpor.worker.cli import printing, sparkline
from torpor.worker.cli.shared import Json, redis_of
from torpor.worker.cli.status import jobs_of, tasks
from torpor.worker.monitoring import series
from torpor.worker.monitoring.samples import COUNTED, KEPT_SPAN, of_node
from torpor.worker.quantities import span_of

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table

    from torpor.worker.ops.glance import Glance

# The width of a line, what stands beside it, and the least that is left of it on a narrow terminal.
_WIDTH, _BESIDE, _LEAST_WIDTH = 60, 52, 10


def top(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show the figures once, and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="How often to look, in seconds.")] = 2.0,
    last: Annotated[str, typer.Option(metavar="SPAN", help="How far back the lines go: 1h, 7d at most.")] = "1h",
    as_json: Json = False,
) -> None:
    """Show the figures of the deployment live.

    It goes on until Ctrl-C. The lines of the last hour come from the samples that workers and torpor sweep keep in
    Redis, one a minute. Where the output is no terminal, and with --json, the figures are shown once. Redis alone is
    asked; an outage of it is shown, and top goes on.

    Example: torpor top --last 24h

    Example: torpor top --json | jq '.samples[-1].figures'
    """
    from torpor.worker.ops.glance import glance

    span = span_of(last)
    if not timedelta() < span <= KEPT_SPAN:
        raise InvalidArgument("--last is a span of more than 0s and at most 7d: Redis keeps no older samples")
    services = redis_of(context)
    if as_json:
        printing.print_json(glance(services, span))
        return
    out = printing.terminal()
    if once or not out.is_terminal or out.is_dumb_terminal:
        out.print(frame(glance(services, span), span, out))
    else:
        _show(lambda: glance(services, span), span, interval)


def _show(look: Callable[[], Glance], span: timedelta, interval: float) -> None:
    """Draw frame after frame. An outage of Redis stands in one line above the last figures."""
    from rich.live import Live
    from rich.text import Text

    # A SIGTERM leaves the terminal as it was, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    out = printing.terminal()
    drawn: RenderableType = Text("looking")
    with Live(drawn, console=out, screen=True, auto_refresh=False) as live:
        while True:
            try:
                drawn = frame(look(), span, out)
                live.update(drawn, refresh=True)
            except TransientError as error:
                live.update(_with_outage(drawn, error), refresh=True)
            time.sleep(interval)


def _with_outage(drawn: RenderableType, error: TransientError) -> Group:
    from rich.console import Group
    from rich.text import Text

    line = Text(f"no figures at {datetime.now(UTC):%H:%M:%S} UTC: {printing.one_line(str(error))}", "bold red")
    line.truncate(printing.terminal().width, overflow="ellipsis")
    return Group(line, drawn)


def frame(seen: Glance, span: timedelta, out: Console) -> Group:
    """One frame, for a terminal of this width."""
    from rich.console import Group
    from rich.text import Text

    from torpor.worker.ops.status_warnings import health_in_words

    warnings = [Text(f"warning: {printing.one_line(each.text)}", "bold yellow") for each in seen.warnings]
    archive = health_in_words(seen.archive_health, seen.now)
    head = f"{seen.now:%Y-%m-%d %H:%M:%S} UTC by Redis's clock; archive: {archive}"
    head += f"; open jobs: {jobs_of(seen)}"
    tables = [_figures(seen, span, out), _nodes(seen, span, out), *([_workers(seen)] if seen.workers else [])]
    return Group(*warnings, Text(head), *(part for table in tables for part in (Text(), table)))


def _figures(seen: Glance, span: timedelta, out: Console) -> Table:
    """Each figure now, its line, and the highest point of the line."""
    table = _table("figure", "now", f"last {printing.span(span)}", "most")
    table.columns[2].no_wrap = True  # a line is one row, however narrow the terminal
    width = max(min(_WIDTH, out.width - _BESIDE), _LEAST_WIDTH)
    ascii_only = not out.encoding.startswith("utf")
    for name, (title, shown) in _LEVELS.items():
        values = [*series.levels(seen.samples, name, seen.now, span, width)]
        _add(
            table, title, shown(seen.figures[name]), sparkline.draw(values, ascii_only=ascii_only), _most(values, shown)
        )
    for name, title in _RATES.items():
        values = series.rates(seen.samples, name, seen.now, span, width)
        line = sparkline.draw(values, ascii_only=ascii_only)
        _add(table, title, _count(seen.figures[name]), line, _most(values, _per_minute))
    return table


def _nodes(seen: Glance, span: timedelta, out: Console) -> Table:
    """The memory of each node now, and its line."""
    table = _table("node", "memory", "limit", "share", f"last {printing.span(span)}", "policy")
    table.columns[4].no_wrap = True
    width = max(min(_WIDTH, out.width - _BESIDE), _LEAST_WIDTH)
    for node in seen.nodes:
        values = series.levels(seen.samples, of_node(node.name, "memory_kib"), seen.now, span, width)
        line = sparkline.draw(values, ascii_only=not out.encoding.startswith("utf"))
        used, limit = node.used_bytes, node.limit_bytes
        share = f"{used / limit:.0%}" if limit else "-"
        _add(table, node.name or "redis", printing.size(used), printing.size(limit), share, line, node.policy)
    return table


def _workers(seen: Glance) -> Table:
    table = _table("worker", "host", "version", "up for", "in work")
    for each in seen.workers:
        up = printing.span(seen.now - each.since) if each.since else "-"
        _add(table, each.name, each.host, each.version, up, tasks(each))
    return table


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row as plain text: rich would take a bracket for markup."""
    from rich.text import Text

    table.add_row(*(Text(printing.one_line(cell)) for cell in cells))


def _most(values: Sequence[float | None], shown: Callable[[int], str]) -> str:
    known = [value for value in values if value is not None]
    return shown(round(max(known))) if known else "-"


def _count(value: int) -> str:
    return f"{value:,}"


def _per_minute(value: int) -> str:
    return f"{value:,}/min"


def _kib(value: int) -> str:
    return printing.size(1024 * value)


# Name of a figure -> its title, and how its values are shown. The rates count how often in a minute.
_LEVELS: Mapping[str, tuple[str, Callable[[int], str]]] = {
    "live": ("live in Redis", _count),
    "waiting": ("waiting to sleep", _count),
    "oldest_waiting_seconds": ("oldest waiting", printing.span),
    "quarantined": ("quarantined", _count),
    "memory_kib": ("Redis memory", _kib),
}
_RATES = {name: f"{name} since start" for name in COUNTED}
