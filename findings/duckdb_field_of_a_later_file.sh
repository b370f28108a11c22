#!/usr/bin/env bash
# DuckDB leaves out a field that first occurs in the 33rd of many JSON files; in one file, the same lines are an error.
#
# Versions: duckdb 2.0.1.
# Why it matters: an archive of chats is many small files of JSON lines, and a field such as tool_calls comes up late.
#   read_json looks at 32 files to learn the fields and says nothing of what else it meets: the query answers as if no
#   tool had ever been called. With one file, DuckDB refuses a field that comes after what it looked at.
#   ignore_errors=false is no help; union_by_name=true or maximum_sample_files=-1 is.
# Seen:
#   in file 32: 1 row with tool_calls
#   in file 33: no such column (in 40 rows)
#   in file 33, union_by_name=true: 1 row with tool_calls
#   in line 33 of one file, sample_size=32: InvalidInputException
# Source: maximum_sample_files, "The maximum number of JSON files sampled for auto-detection", 32 by default. What
#   becomes of a field in the others is not documented. https://github.com/duckdb/duckdb/issues/25826 (open) is about
#   one large file.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1

"$folder/venv/bin/python" -W ignore - "$folder" <<'PY'
import json
import sys
from pathlib import Path

import duckdb


def lines(place: int) -> list[str]:
    """Forty messages; the one at this place calls a tool."""
    messages = [{"type": "ai", "content": f"Message {number}."} for number in range(1, 41)]
    messages[place - 1]["tool_calls"] = [{"name": "search"}]
    return [json.dumps(message) + "\n" for message in messages]


def count(source: Path, options: str = "") -> str:
    found = duckdb.sql(f"SELECT * FROM read_json('{source}', ignore_errors=false{options})")
    if "tool_calls" not in found.columns:
        return f"no such column (in {len(found.fetchall())} rows)"
    return f"{len(found.filter('tool_calls IS NOT NULL').fetchall())} row with tool_calls"


seen = []
for place, options in ((32, ""), (33, ""), (33, ", union_by_name=true")):
    archive = Path(sys.argv[1], f"archive-{len(seen)}")
    archive.mkdir()
    for number, line in enumerate(lines(place), start=1):
        (archive / f"{number:02}.jsonl").write_text(line)
    seen.append(count(archive / "*.jsonl", options))
    print(f"in file {place}{options}: {seen[-1]}")
single = Path(sys.argv[1], "single.jsonl")
single.write_text("".join(lines(33)))
try:
    seen.append(count(single, ", sample_size=32"))
except duckdb.InvalidInputException as error:
    seen.append(type(error).__name__)
print("in line 33 of one file, sample_size=32:", seen[-1])
expected = ["1 row with tool_calls", "no such column (in 40 rows)", "1 row with tool_calls", "InvalidInputException"]
sys.exit(0 if seen == expected else "the behaviour is gone")
PY
