"""The records of the writers, and how a transcript differs from them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages `[first, stop)` that a writer has tried to add; `end` is None if the write raised."""

    writer: int
    session: str
    first: int
    stop: int
    begin: float
    end: float | None
    era: int

    @property
    def texts(self) -> list[str]:
        return [f"{self.writer}:{number}" for number in range(self.first, self.stop)]


@dataclass
class Record:
    """One session's ledger. An era ends with an acknowledged clear."""

    turns: list[Turn] = field(default_factory=list)
    era: int = 0
    lines: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """How a transcript differs from its ledger."""

    lost: list[str]
    doubled: list[str]  # or back after a clear, or never written
    reordered: list[str]

    def __bool__(self) -> bool:
        return not (self.lost or self.doubled or self.reordered)


def judge(record: Record, texts: Sequence[str]) -> Verdict:
    """Compare a transcript with what was acknowledged."""
    found = Counter(texts)
    turn_of = {text: turn for turn in record.turns for text in turn.texts}
    known = {text: turn for text, turn in turn_of.items() if turn.end is None or turn.era == record.era}
    lost = [text for text, turn in known.items() if turn.end is not None and text not in found]
    doubled = [text for text, times in found.items() if times > 1 or text not in known]
    reordered = []
    last: dict[int, int] = {}
    for text in texts:
        writer, number = (int(part) for part in text.split(":"))
        if number < last.get(writer, -1):
            reordered.append(text)
        last[writer] = number
    # This counts for different writers too: an acknowledged message comes before every write that began later.
    earliest_end = float("inf")
    for text in reversed(texts):
        if (turn := turn_of.get(text)) is None:
            continue
        if turn.begin > earliest_end and text not in reordered:
            reordered.append(text)
        earliest_end = min(earliest_end, turn.end or float("inf"))
    return Verdict(lost, doubled, reordered)


def read_ledger(logs: Iterable[Path]) -> tuple[dict[str, Record], list[str]]:
    """All writers' logs by session, and the faults that they have noted."""
    records: dict[str, Record] = defaultdict(Record)
    odd: list[str] = []
    for log in logs:
        tried: dict[str, Any] | None = None
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if entry["what"] == "odd":
                odd.append(line)
                continue
            record = records[entry["session"]]
            record.lines.append(line)
            if entry["what"] == "cleared":
                record.era += 1
            elif entry["what"] == "try":
                if tried:
                    _enter(records, tried, None)
                tried = entry
            elif entry["what"] == "ack":
                assert tried
                _enter(records, tried, entry["at"])
                tried = None
        if tried:
            _enter(records, tried, None)
    return records, odd


def _enter(records: dict[str, Record], tried: dict[str, Any], end: float | None) -> None:
    record = records[tried["session"]]
    turn = Turn(tried["writer"], tried["session"], tried["first"], tried["stop"], tried["at"], end, era=tried["era"])
    record.turns.append(turn)
