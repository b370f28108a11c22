#!/usr/bin/env bash
# DuckDB takes ids that look like UUIDs for UUIDs: two that differ in case become one.
#
# Versions: duckdb 2.0.1.
# Why it matters: session ids are text to whoever wrote them, and case counts. read_json gives the column the type UUID,
#   which has no case: the messages of two people come out as one session. A single id of another form gives the column the
#   type VARCHAR, and the same query another result.
# Seen:
#   UUID: 1 session, as 0a1b2c3d-0000-4000-8000-00000000abcd
#   with an id of another form beside them: VARCHAR, 3 sessions
#   column named VARCHAR: 2 sessions
# Source: read_json "also automatically deduces types of columns"; the examples of that page deduce numbers and booleans.
#   https://duckdb.org/docs/stable/data/json/loading_json
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1

"$folder/venv/bin/python" -W ignore - "$folder/lines.jsonl" <<'PY'
import json
import sys
from pathlib import Path

import duckdb

IDS = ["0a1b2c3d-0000-4000-8000-00000000abcd", "0A1B2C3D-0000-4000-8000-00000000ABCD"]


def sessions(ids: list[str], options: str = "") -> tuple[str, list[str]]:
    """The type of the column, and the sessions that a query tells apart."""
    Path(sys.argv[1]).write_text("".join(json.dumps({"session_id": each}) + "\n" for each in ids))
    found = duckdb.sql(f"SELECT session_id FROM read_json('{sys.argv[1]}'{options}) GROUP BY ALL")
    return str(found.types[0]), [str(row[0]) for row in found.fetchall()]


kind, found = sessions(IDS)
print(f"{kind}: {len(found)} session, as {found[0]}")
mixed_kind, mixed = sessions([*IDS, "user-42"])
print(f"with an id of another form beside them: {mixed_kind}, {len(mixed)} sessions")
named_kind, named = sessions(IDS, ", columns={session_id: 'VARCHAR'}")
print(f"column named {named_kind}: {len(named)} sessions")
sys.exit(0 if (kind, len(found), len(mixed), len(named)) == ("UUID", 1, 3, 2) else "the behaviour is gone")
PY
