"""The archive as a view of a query engine: the SQL statements that make it, each in a file of its own.

In a file stands `<archive>` for the archive's URL or folder, and `<source>` for all of ClickHouse's table function.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from torpor.history.protocol import InvalidArgument
from torpor.worker.archive.stores.url import parse_archive_url
from torpor.worker.control_characters import CONTROL

_SEGMENTS = "v1/*/*/*/*.jsonl.gz"
_STRUCTURE = "session_id String, epoch Int64, seq Int64, at Int64, message String, record String, raw String"
# What has a meaning in the patterns of ClickHouse and BigQuery, and can't be written otherwise.
_PATTERN = "*?{}"
# DuckDB takes it for a slash.
_PARTING = "\\"


class Engine(StrEnum):
    """A query engine that a view can be made for."""

    DUCKDB = "duckdb"
    BIGQUERY = "bigquery"
    CLICKHOUSE = "clickhouse"


def statement(engine: Engine, archive_url: str) -> str:
    """The SQL that makes the view `torpor_messages`; raises InvalidArgument if the engine can't read the archive."""
    template = files(__package__).joinpath(f"{engine}.sql").read_text(encoding="utf-8")
    place, text = _PLACES[engine](archive_url)
    return template.replace(place, text)


def _duckdb(archive_url: str) -> tuple[str, str]:
    place = parse_archive_url(archive_url)
    name = _without(_PARTING, str(place) if isinstance(place, Path) else _bucket_url("gs://", place))
    # In a pattern, a character that means itself stands in brackets.
    plain = "".join(f"[{each}]" if each in "*?[" else each for each in name)
    return "<archive>", plain.replace("'", "''")


def _clickhouse(archive_url: str) -> tuple[str, str]:
    place = parse_archive_url(archive_url)
    if isinstance(place, Path):
        pattern = _literal(f"{_without(_PATTERN, str(place))}/{_SEGMENTS}")
        return "<source>", f"file({pattern}, 'JSONEachRow', '{_STRUCTURE}')"
    url = _literal(f"{_without(_PATTERN, _bucket_url('https://storage.googleapis.com/', place))}/{_SEGMENTS}")
    return "<source>", f"gcs({url}, 'HMAC_KEY', 'HMAC_SECRET', 'JSONEachRow', '{_STRUCTURE}')"


def _bigquery(archive_url: str) -> tuple[str, str]:
    place = parse_archive_url(archive_url)
    if isinstance(place, Path):
        raise InvalidArgument("BigQuery reads an archive in a bucket only, not a folder")
    return "<archive>", _literal(_without(_PATTERN, _bucket_url("gs://", place)))[1:-1]


_PLACES: dict[Engine, Callable[[str], tuple[str, str]]] = {
    Engine.DUCKDB: _duckdb,
    Engine.BIGQUERY: _bigquery,
    Engine.CLICKHOUSE: _clickhouse,
}


def _bucket_url(root: str, place: tuple[str, str]) -> str:
    bucket, prefix = place
    return root + "/".join(part for part in (bucket, prefix) if part)


def _without(forbidden: str, name: str) -> str:
    """The name, if it has none of these characters, and none that controls a terminal; raises InvalidArgument."""
    if CONTROL.search(name):
        raise InvalidArgument("the archive's URL has control characters, which no statement is printed with")
    if found := sorted(set(forbidden) & set(name)):
        raise InvalidArgument(f"the archive's URL has {' '.join(found)}, which this engine takes for something else")
    return name


def _literal(text: str) -> str:
    """A string literal of ClickHouse and BigQuery, where a backslash escapes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
