"""The table of all metrics, from which the endpoint and its documentation come.

Names follow https://prometheus.io/docs/practices/naming/. The figures are the whole deployment's, so every worker shows
the same ones: take one of them (`max`), never the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. A counter or a histogram has a `source`.

    The source of a counter is a field of the shards' tallies, or a series of measures; with a label `outcome` and
    `values`, one field for each value. The source of a histogram is a series of measures.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    source: str = ""
    values: tuple[str, ...] = ()


_COUNTER, _GAUGE, _HISTOGRAM = Kind

METRICS = (
    Metric("torpor_redis_up", _GAUGE, "1 if Redis has answered this scrape; else most other metrics are missing."),
    Metric(
        "torpor_sessions",
        _GAUGE,
        "Sessions in Redis by state. Due, in work and postponed ones are also counted as live. Those in work and "
        "postponed are counted among the next 512 sessions to be looked at.",
        ("state",),
    ),
    Metric(
        "torpor_sessions_by_kind",
        _GAUGE,
        "Sessions with messages in Redis by kind: chat (of LangChain or the Agents SDK), thread (of LangGraph). In "
        "a deployment that is older than this count, all are unknown until `torpor doctor --repair` counts them.",
        ("kind",),
    ),
    Metric(
        "torpor_sessions_asleep",
        _GAUGE,
        "Sessions asleep, as the last walk through the whole archive has counted them (`torpor sessions "
        "--count-asleep`); missing if there was none.",
    ),
    Metric("torpor_sessions_asleep_counted_timestamp_seconds", _GAUGE, "When that walk began; 0 for never."),
    Metric(
        "torpor_oldest_waiting_seconds",
        _GAUGE,
        "For how long the session that first became due longest ago has been waiting to sleep; 0 if none waits.",
    ),
    Metric(
        "torpor_attempts_total",
        _COUNTER,
        "Attempts to put a session to sleep, by outcome: archived, kept (it was used meanwhile), postponed (after a "
        "failure that may pass), failed, quarantined.",
        ("outcome",),
        values=("archived", "kept", "postponed", "failed", "quarantined"),
    ),
    Metric("torpor_archived_messages_total", _COUNTER, "Messages verified in the archive.", source="archived_messages"),
    Metric(
        "torpor_archived_bytes_total", _COUNTER, "Bytes of the segments of those messages.", source="archived_bytes"
    ),
    Metric(
        "torpor_redis_freed_bytes_total",
        _COUNTER,
        "Bytes of Redis's memory that archived sessions have freed: what MEMORY USAGE estimates, before the deletion, "
        "for the messages, the metadata and the index of records; 0 where a server does not allow it.",
        source="freed_bytes",
    ),
    Metric("torpor_sessions_restored_total", _COUNTER, "Sessions put back into Redis.", source="restored"),
    Metric("torpor_sessions_woken_total", _COUNTER, "Those of them that a reader has woken.", source="woken"),
    Metric("torpor_restored_messages_total", _COUNTER, "Messages put back into Redis.", source="restored_messages"),
    Metric("torpor_sessions_purged_total", _COUNTER, "Sessions removed from Redis by purges.", source="purged"),
    Metric("torpor_claims_total", _COUNTER, "Leases that workers took.", source="claims"),
    Metric(
        "torpor_leases_lost_total",
        _COUNTER,
        "Leases that ended without a word: their worker died or lost Redis. Counted at the next claim of the session.",
        source="leases_ended",
    ),
    Metric(
        "torpor_attempt_duration_seconds",
        _HISTOGRAM,
        "From the beginning of an attempt to its commit, of sessions that were archived or kept.",
        source="attempt",
    ),
    Metric("torpor_segment_size_bytes", _HISTOGRAM, "Size of uploaded segments.", source="segment"),
    Metric(
        "torpor_wake_duration_seconds",
        _HISTOGRAM,
        "From the beginning of a restore to the session in Redis, of applications and workers.",
        source="wake",
    ),
    Metric(
        "torpor_archive_requests_total",
        _COUNTER,
        "Requests to the archive, with their retries, by verb (put, list, read, delete, amend) and outcome (ok, "
        "unavailable, refused, missing, conflict, corrupt, failed).",
        ("verb", "outcome"),
        source="requests",
    ),
    Metric(
        "torpor_archive_request_duration_seconds",
        _HISTOGRAM,
        "Duration of requests to the archive that ended well, by verb.",
        ("verb",),
        source="request",
    ),
    Metric("torpor_archive_available", _GAUGE, "0 from a first failure on, until the archive works for all workers."),
    Metric("torpor_archive_breaker_open", _GAUGE, "1 while the archive fails for this worker.", ("worker",)),
    Metric("torpor_redis_memory_bytes", _GAUGE, "Memory that a primary uses.", ("node",)),
    Metric("torpor_redis_memory_limit_bytes", _GAUGE, "Its limit, if one is known.", ("node",)),
    Metric("torpor_workers", _GAUGE, "Workers seen in the last minute."),
    Metric("torpor_worker_info", _GAUGE, "1 for each worker seen in the last minute.", ("worker", "version")),
    Metric("torpor_last_sweep_timestamp_seconds", _GAUGE, "When a worker last swept; 0 for never."),
    Metric("torpor_last_beat_timestamp_seconds", _GAUGE, "When beat last sent something; 0 for never."),
    Metric("torpor_purges_open", _GAUGE, "Purges without a receipt, as of the last look (once in four sweeps)."),
    Metric("torpor_oldest_purge_seconds", _GAUGE, "The age of the oldest of them; 0 if there is none."),
    Metric(
        "torpor_jobs_open",
        _GAUGE,
        "Jobs that are not finished, as of the last look (once in four sweeps), by state: working (or waiting for its "
        "turn), failed (a part of it met an error and is tried again), refused (nobody here can do it).",
        ("state",),
    ),
    Metric("torpor_oldest_job_seconds", _GAUGE, "The age of the oldest of them; 0 if there is none."),
    Metric("torpor_legal_holds", _GAUGE, "Legal holds, of sessions and of owners, as of the same look.", ("of",)),
)


def markdown() -> str:
    """The table for the page about metrics."""
    rows = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for each in METRICS:
        labels = ", ".join(f"`{label}`" for label in each.labels) or "-"
        rows.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    return "\n".join(rows) + "\n"
