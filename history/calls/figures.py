"""What can be watched of a deployment: figures of its shards, measures of its processes, who was seen when, samples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from torpor.history.calls.call import Call, Deployment, span_ms, to_moment, to_moment_or_none
from torpor.history.calls.index import of_each
from torpor.history.calls.session_keys import session_keys
from torpor.history.errors import TorporError, translate
from torpor.history.keys import config_key, measures_key, samples_key, seen_key
from torpor.history.overview import COUNTS, KindCounts, Measures, Sample, ShardFigures
from torpor.history.scripts import script

_TOMBSTONES = b"tombstones"


def figures(deployment: Deployment, shards: Sequence[int], ahead: int) -> Call[tuple[ShardFigures, list[TorporError]]]:
    """Add up the figures of shards, and list the errors of the shards that could not be counted.

    Of each shard, `ahead` sessions are looked at for those in work and postponed.
    """
    of_shards = map(deployment.keyspace.shard, shards)
    keys = [key for shard in of_shards for key in (shard.due, shard.quarantine, shard.tally)]

    def decode(reply: Any) -> tuple[ShardFigures, list[TorporError]]:
        now, index, due, in_work, postponed, quarantined, first, waiting, sums, looked = reply
        counts = dict(zip(sums[::2], map(int, sums[1::2]), strict=True))
        tombstones = counts.get(_TOMBSTONES, 0)
        figures = ShardFigures(
            to_moment(now),
            live=max(int(index) - tombstones, 0),
            due=int(due),
            in_work=int(in_work),
            postponed=int(postponed),
            quarantined=int(quarantined),
            tombstones=tombstones,
            first_due=to_moment_or_none(first),
            waiting=[session.decode() for session in waiting],
            counts={name: counts.get(name.encode(), 0) for name in COUNTS},
            chats=counts.get(b"chats", 0) - counts.get(b"chats_left", 0),
            threads=counts.get(b"threads", 0) - counts.get(b"threads_left", 0),
        )
        return figures, [translate(each) for each in looked if isinstance(each, Exception)]

    return Call(script("figures"), keys, [ahead], decode)


def kinds(deployment: Deployment, shard: int) -> Call[KindCounts]:
    """Read how many sessions of a shard have come and left, by kind."""
    keys = [deployment.keyspace.shard(shard).tally]
    return Call(script("kinds"), keys, [], lambda reply: KindCounts(*(int(count or 0) for count in reply)))


def set_kinds(deployment: Deployment, shard: int, before: KindCounts, chats: int, threads: int) -> Call[bool]:
    """Correct the counts to the sessions that are there; False if one has come or left since `before` was read."""
    keys = deployment.keyspace.shard(shard)
    args = [before.chats_came, before.chats_left, before.threads_came, before.threads_left, chats, threads]
    # Sent again, it would find its own correction.
    return Call(script("set_kinds"), [keys.tally, keys.due], args, bool, repeatable=False)


def note_kinds_counted(deployment: Deployment) -> Call[None]:
    """Note that the sessions of all shards are counted by kind."""
    return Call(script("note_kinds_counted"), [config_key(deployment.keyspace.namespace)], [], lambda _: None)


def waiting_since(deployment: Deployment, session_id: str) -> Call[datetime | None]:
    """Since when a session in work or postponed has been waiting to fall asleep; None if nothing is noted."""
    keys = session_keys(deployment.keyspace, session_id)
    return Call(script("waiting_since"), [keys.metadata], [], to_moment_or_none)


def count_holds(deployment: Deployment, shards: Sequence[int]) -> Call[list[tuple[int, int] | TorporError]]:
    """Count the legal holds of sessions, and those of owners, which stand in every shard. Errors as with `figures`."""
    keys = [deployment.keyspace.shard(shard).holds for shard in shards]
    return Call(script("count_holds"), keys, [], of_each(shards, lambda _, reply: (int(reply[0]), int(reply[1]))))


def note_seen(deployment: Deployment, who: str, noted: Mapping[str, str], keep: timedelta) -> Call[int]:
    """Note that somebody was seen now, and fields of it. Who was not seen for the span `keep` is forgotten."""
    fields = [part.encode(errors="replace") for part in chain.from_iterable(noted.items())]
    key = seen_key(deployment.keyspace.namespace)
    # Sent again, it would note a later moment.
    args = [span_ms(keep), who.encode(errors="replace"), *fields]
    return Call(script("note_seen"), [key], args, int, repeatable=False)


def measures(deployment: Deployment) -> Call[Measures]:
    """Read what was measured and noted."""

    def decode(reply: Any) -> Measures:
        now, measured, seen = reply
        fields = dict(zip(measured[::2], measured[1::2], strict=True))
        noted = dict(zip(seen[::2], seen[1::2], strict=True))
        numbers = _numbers(fields)
        return Measures(
            to_moment(now),
            numbers,
            {name.decode(errors="replace"): value.decode(errors="replace") for name, value in noted.items()},
            [name for name in map(_text, fields) if name not in numbers],
        )

    namespace = deployment.keyspace.namespace
    return Call(script("measures"), [measures_key(namespace), seen_key(namespace)], [], decode)


def add_sample(deployment: Deployment, figures: Mapping[str, int], *, least: timedelta, keep: int) -> Call[bool]:
    """Add a sample of the figures now; False if the last one is younger than `least`. About the last `keep` stay."""
    args: list[bytes | int] = [span_ms(least), keep]
    for name, value in figures.items():
        args += [name.encode(), value]
    return Call(script("add_sample"), [samples_key(deployment.keyspace.namespace)], args, bool, repeatable=False)


def samples(deployment: Deployment, span: timedelta, after: str, most: int) -> Call[list[Sample]]:
    """Read up to `most` samples of the last span, oldest first; those after the one with the id `after`, or all."""

    def decode(reply: Any) -> list[Sample]:
        return [
            Sample(
                to_moment(identity.partition(b"-")[0]),
                _numbers(dict(zip(fields[::2], fields[1::2], strict=True))),
                identity.decode(),
            )
            for identity, fields in reply
        ]

    key = samples_key(deployment.keyspace.namespace)
    return Call(script("samples"), [key], [span_ms(span), after.encode(), most], decode)


def _numbers(fields: Mapping[bytes, bytes]) -> dict[str, int]:
    """The fields that have a whole number."""
    return {_text(name): int(value) for name, value in fields.items() if re.fullmatch(rb"-?\d{1,19}", value)}


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
