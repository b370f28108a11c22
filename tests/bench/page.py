"""Writes the results of a run between the marker comments of docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from bench import cost
from bench.harness import Reach, Result, Side
from support.paths import ROOT
from support.servers import server_binary

PAGE = ROOT / "docs" / "performance.md"
_PACKAGES = (
    "redis",
    "hiredis",
    "langchain-core",
    "langchain-google-memorystore-redis",
    "google-cloud-storage",
    "celery",
)
_PROFILE_LINES = 8


def table(results: Sequence[Result]) -> str:
    """A line for each goal of each row, in Markdown."""
    head = "| figure | unit | ours | peer | floor | ratio (rounds) | reach | met |\n" + "| --- " * 8 + "|"
    return "\n".join([head, *(line for result in results for line in _lines(result))])


def write(results: Sequence[Result], load: float, seconds: float, *, quick: bool) -> None:
    """Replace the text between the page's markers; `load` is the machine's load before the run."""
    page = PAGE.read_text(encoding="utf-8")
    blocks = {
        "machine": _machine(results, _PACKAGES, load, seconds, quick=quick),
        "table": table(results),
        "sides": "\n".join(map(_sides, results)),
        "profiles": "\n\n".join(_profile(result) for result in results if result.missed and result.profile),
        "cost": cost.table({result.row.name: result for result in results}),
    }
    for name, block in blocks.items():
        page = replaced(page, name, block)
    PAGE.write_text(page, encoding="utf-8")


def write_part(
    name: str, packages: Sequence[str], results: Sequence[Result], load: float, seconds: float, *, quick: bool
) -> None:
    """Replace a part of the page that has rows of its own."""
    missed = dict.fromkeys(result.row.why for result in results if result.missed and result.row.why)
    parts = [_machine(results, packages, load, seconds, quick=quick), table(results), *missed]
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, name, "\n\n".join(parts)), encoding="utf-8")


def replaced(page: str, name: str, block: str) -> str:
    """The page with another text between the two markers of a block."""
    begin, end = f"<!-- bench: {name} -->", f"<!-- bench: end of {name} -->"
    marked = re.compile(f"{begin}.*?{end}", re.DOTALL)
    assert len(marked.findall(page)) == 1, name
    return marked.sub(lambda _: f"{begin}\n\n{block}\n\n{end}", page)


def number(value: float | None) -> str:
    """The number with three digits, or with all digits before the point."""
    if value is None:
        return ""
    for limit, form in ((100, ",.0f"), (10, ".1f"), (0.1, ".2f")):
        if abs(value) >= limit:
            return format(value, form)
    return format(value, ".2g")


def _lines(result: Result) -> Iterator[str]:
    row = result.row
    sides = " | ".join(number(result.median(side)) for side in Side)
    judged = [_judged(result, reach) for reach in row.reaches]
    for ratio, limit, met in judged or [(_ratio(result, Reach(0, Side.PEER)), "", "")]:
        yield f"| {row.figure} | {row.unit} | {sides} | {ratio} | {limit} | {met} |"


def _judged(result: Result, reach: Reach) -> tuple[str, str, str]:
    value = result.value(reach)
    if reach.of is Side.OURS:
        ratio, limit = "", f"at most {reach.limit:g} {result.row.unit}"
    else:
        ratio = _ratio(result, reach)
        limit = f"at {'least' if reach.at_least else 'most'} {reach.limit:g} of the {reach.of}"
    if reach.stretch:
        limit += f"; stretch {reach.stretch:g}"
    if not reach.is_met(value):
        return ratio, limit, f"**no**, by {abs(value / reach.limit - 1):.0%}"
    return ratio, limit, "yes, stretch too" if reach.stretch and value <= reach.stretch else "yes"


def _ratio(result: Result, reach: Reach) -> str:
    values = result.values(reach)
    return f"{number(result.value(reach))} ({number(min(values))} to {number(max(values))})"


def _sides(result: Result) -> str:
    row = result.row
    named = (("ours", row.ours), ("peer", row.peer), ("floor", row.floor))
    return f"- **{row.figure}** (`{row.name}`, {len(result.rounds)} rounds). " + " ".join(
        f"{side.capitalize()}: {what}." for side, what in named if what
    )


def _profile(result: Result) -> str:
    lines = "\n".join(result.profile[:_PROFILE_LINES])
    return f"### {result.row.figure} (`{result.row.name}`)\n\n{result.row.why}\n\n```\n{lines}\n```"


def _machine(results: Sequence[Result], measured: Sequence[str], load: float, seconds: float, *, quick: bool) -> str:
    server = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    [redis_version] = re.findall(r"v=([\d.]+)", server)
    packages = ", ".join(f"{package} {version(package)}" for package in measured)
    rounds = max(len(result.rounds) for result in results)
    kind = "a quick run, which shows no more than that all of it works" if quick else f"{rounds} rounds"
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}, "
        f"redis-server {redis_version}, {packages}; {kind}, {seconds / 60:.0f} minutes; "
        f"the load of the machine before it began was {load:.1f}."
    )
